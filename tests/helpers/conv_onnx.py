"""A small detector with everything a body is made of: joins, SiLU, depthwise and wide convolutions, three heads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASSES = 4
SIZE = 64


def conv_detector(path: Path, *, opset: int = 13, dynamic_batch: bool = False) -> Path:
    """Write a YOLOv8-layout detector for 64x64 pictures with random weights, its channels of very different sizes."""
    graph = _Body()
    tensor = graph.add("Concat", ["images", "images"], axis=1)
    tensor = graph.silu(graph.conv("first", tensor, 6, 16, kernel=3))
    tensor = graph.silu(graph.conv("depthwise", tensor, 16, 16, kernel=3, groups=16))
    tensor = graph.silu(graph.conv("wide", tensor, 16, 32, kernel=3))
    heads = []
    for stride in (8, 16, 32):
        if stride > 8:
            tensor = graph.silu(graph.conv(f"down{stride}", tensor, 32, 32, kernel=3))
        inner = graph.add("Relu", [graph.conv(f"neck{stride}", tensor, 32, 32, stride=1)])
        head = graph.conv(f"head{stride}", inner, 32, 4 + CLASSES, stride=1)
        heads.append(graph.add("Reshape", [head, graph.constant(np.array([0, 4 + CLASSES, -1], np.int64))]))
    joined = graph.add("Concat", heads, axis=2)
    boxes, scores = graph.split(joined)
    pixels = graph.add("Add", [graph.add("Mul", [boxes, graph.scalar(8.0)]), graph.scalar(32.0)])
    graph.add("Concat", [pixels, graph.add("Sigmoid", [scores])], axis=1, output="output0")
    batch = "batch" if dynamic_batch else 1
    cells = sum((SIZE // stride) ** 2 for stride in (8, 16, 32))
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "conv",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, SIZE, SIZE])],
            [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [batch, 4 + CLASSES, cells])],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=7,
    )
    helper.set_model_props(model, {"names": str({index: f"thing{index}" for index in range(CLASSES)})})
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


class _Body:
    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._random = np.random.default_rng(7)

    def add(self, op_type: str, inputs: list[str], *, output: str = "", name: str = "", **attributes: Any) -> str:
        output = output or f"{op_type.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=name or f"{op_type}_{output}", **attributes))
        return output

    def constant(self, values: Any) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def scalar(self, value: float) -> str:
        return self.constant(np.array(value, np.float32))

    def conv(
        self, name: str, tensor: str, fan_in: int, fan_out: int, *, kernel: int = 1, stride: int = 2, groups: int = 1
    ) -> str:
        shape = (fan_out, fan_in // groups, kernel, kernel)
        spread = 2.0 ** self._random.uniform(-4, 1, (fan_out, 1, 1, 1))
        weights = self._random.standard_normal(shape) * spread / np.sqrt(fan_in // groups * kernel**2) * 2
        inputs = [tensor, self.constant(weights.astype(np.float32)), self.constant(np.zeros(fan_out, np.float32))]
        pad = kernel // 2
        return self.add("Conv", inputs, name=name, strides=[stride] * 2, pads=[pad] * 4, group=groups)

    def silu(self, tensor: str) -> str:
        return self.add("Mul", [tensor, self.add("Sigmoid", [tensor])])

    def split(self, tensor: str) -> tuple[str, str]:
        bounds = [self.constant(np.array([value], np.int64)) for value in (0, 4, 4 + CLASSES)]
        axis = self.constant(np.array([1], np.int64))
        boxes = self.add("Slice", [tensor, bounds[0], bounds[1], axis])
        return boxes, self.add("Slice", [tensor, bounds[1], bounds[2], axis])
