"""The last layers of real exporters' graphs, for recognition alone: right in wiring, with made-up weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STRIDES = (8, 16, 32)


class Graph:
    """Collects nodes and constants."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, op: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def constant(self, name: str, *shape: int, dtype: type = np.float32) -> str:
        self.constants.append(numpy_helper.from_array(np.ones(shape, dtype), name))
        return name

    def conv(self, source: str, channels: int, name: str) -> str:
        return self.add("Conv", [source, self.constant(f"{name}.weight", channels, 3, 1, 1)], name)

    def save(self, path: Path, output: str, shape: tuple[int | None, ...]) -> Path:
        inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, self.height, self.width])]
        outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)]
        graph = helper.make_graph(self.nodes, "tail", inputs, outputs, self.constants)
        onnx.save(helper.make_model(graph, ir_version=8), str(path))
        return path


def yolox_tail(path: Path, classes: int, *, decoded: bool, size: tuple[int, int] = (416, 416)) -> Path:
    """Focus stem; per stride four, one and ``classes`` channels; raw, or decoded in the graph."""
    graph = Graph(*size)
    phases = [graph.add("Slice", ["images", "a", "b"], f"phase{index}") for index in range(4)]
    stem = graph.add("Concat", phases, "stem", axis=1)
    levels, cells = [], 0
    for stride in STRIDES:
        cells += (size[0] // stride) * (size[1] // stride)
        box = graph.conv(stem, 4, f"box{stride}")
        objectness = graph.add("Sigmoid", [graph.conv(stem, 1, f"obj{stride}")], f"objectness{stride}")
        scores = graph.add("Sigmoid", [graph.conv(stem, classes, f"cls{stride}")], f"scores{stride}")
        joined = graph.add("Concat", [box, objectness, scores], f"joined{stride}", axis=1)
        levels.append(graph.add("Reshape", [joined, "shape"], f"level{stride}"))
    rows = graph.add("Transpose", [graph.add("Concat", levels, "levels", axis=2)], "raw", perm=[0, 2, 1])
    if decoded:
        grid, steps = graph.constant("grid", 1, cells, 2), graph.constant("steps", 1, cells, 1)
        moved = graph.add("Add", [graph.add("Slice", [rows, "c", "d"], "offsets"), grid], "moved")
        grown = graph.add("Exp", [graph.add("Slice", [rows, "c", "d"], "sizes")], "grown")
        parts = [graph.add("Mul", [moved, steps], "centre"), graph.add("Mul", [grown, steps], "extent")]
        rows = graph.add("Concat", [*parts, graph.add("Slice", [rows, "c", "d"], "rest")], "decoded", axis=2)
    return graph.save(path, rows, (1, cells, 5 + classes))


def yolov8_tail(path: Path, classes: int, *, rows: bool, size: tuple[int, int] = (416, 416)) -> Path:
    """Distribution boxes of 64 channels through a softmax, ``classes`` channels through a sigmoid; maybe transposed."""
    graph = Graph(*size)
    cells = sum((size[0] // stride) * (size[1] // stride) for stride in STRIDES)
    levels = []
    for stride in STRIDES:
        parts = [graph.conv("images", 64, f"box{stride}"), graph.conv("images", classes, f"cls{stride}")]
        levels.append(
            graph.add("Reshape", [graph.add("Concat", parts, f"joined{stride}", axis=1), "s"], f"level{stride}")
        )
    every = graph.add("Concat", levels, "levels", axis=2)
    sides = graph.add("Softmax", [graph.add("Slice", [every, "a", "b"], "distribution")], "sides", axis=1)
    near = graph.add("Sub", [graph.constant("anchors", 1, 2, cells), sides], "near")
    boxes = graph.add("Mul", [near, graph.constant("strides", 1, cells)], "boxes")
    scores = graph.add("Sigmoid", [graph.add("Slice", [every, "a", "b"], "logits")], "scores")
    output = graph.add("Concat", [boxes, scores], "output0", axis=1)
    if not rows:
        return graph.save(path, output, (1, 4 + classes, cells))
    return graph.save(path, graph.add("Transpose", [output], "rows", perm=[0, 2, 1]), (1, cells, 4 + classes))


def yolov5_tail(path: Path, classes: int, *, size: tuple[int, int] = (416, 416)) -> Path:
    """One convolution for three anchors a cell; how many candidates that makes, the file leaves open."""
    graph = Graph(*size)
    levels = []
    for stride in STRIDES:
        every = graph.add("Reshape", [graph.conv("images", 3 * (5 + classes), f"head{stride}"), "s"], f"cells{stride}")
        likely = graph.add("Sigmoid", [every], f"likely{stride}")
        boxes = graph.add("Mul", [graph.add("Slice", [likely, "a", "b"], f"part{stride}"), "t"], f"boxes{stride}")
        rest = graph.add("Slice", [likely, "a", "b"], f"rest{stride}")
        levels.append(
            graph.add("Reshape", [graph.add("Concat", [boxes, rest], f"row{stride}", axis=4), "u"], f"l{stride}")
        )
    return graph.save(path, graph.add("Concat", levels, "output", axis=1), (1, None, 5 + classes))
