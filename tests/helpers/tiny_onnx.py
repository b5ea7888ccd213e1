"""Small ONNX detectors made on the spot: one that does nothing, one with planted boxes, one that sees colours.

Every function writes a complete model that passes ``onnx.checker`` and returns its path. Sizes are ``(width, height)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Layout = Literal["yolov8", "yolov8_rows", "yolox"]
"""yolov8: ``[N, 4 + C, A]``; yolov8_rows: ``[N, A, 4 + C]``; yolox: raw grid ``[N, A, 5 + C]``."""

OPSET = 13
STRIDES = (8, 16, 32)
COLOURS = ("red", "green", "blue", "white")


@dataclass(frozen=True)
class PlantedBox:
    """One object that a planted detector reports whatever it is shown."""

    xyxy: tuple[float, float, float, float]
    """In pixels of the model's input."""
    class_id: int = 0
    score: float = 0.9


def cell_count(size: tuple[int, int], strides: Sequence[int] = STRIDES) -> int:
    """Grid cells of all ``strides`` over a picture of ``(width, height)``."""
    width, height = size
    return sum((width // stride) * (height // stride) for stride in strides)


def do_nothing_detector(
    path: Path,
    size: tuple[int, int] = (416, 416),
    classes: int = 80,
    *,
    anchors: int | None = None,
    layout: Layout = "yolov8",
    dynamic_batch: bool = False,
    dtype: str = "float32",
    metadata: bool = True,
) -> Path:
    """Write a detector that finds nothing and costs next to nothing: it reads one pixel and answers zeros.

    ``anchors`` is the number of candidates; the default is the grid's own count (strides 8, 16, 32).
    """
    constant = encode_boxes((), size, classes, layout, anchors)
    return _write_constant(path, constant, size, classes, dynamic_batch, dtype, metadata and layout != "yolox")


def planted_detector(
    path: Path,
    size: tuple[int, int],
    boxes: Sequence[PlantedBox],
    *,
    classes: int = 80,
    layout: Layout = "yolov8",
    dynamic_batch: bool = False,
    dtype: str = "float32",
    metadata: bool = True,
) -> Path:
    """Write a detector that reports ``boxes`` for any picture."""
    constant = encode_boxes(boxes, size, classes, layout)
    return _write_constant(path, constant, size, classes, dynamic_batch, dtype, metadata and layout != "yolox")


def colour_detector(
    path: Path, size: tuple[int, int] = (320, 320), *, dynamic_batch: bool = True, dtype: str = "float32"
) -> Path:
    """Write a detector of coloured areas (RGB, 0-1, centred letterbox, YOLOv8 layout with names in the metadata).

    Classes red, green, blue, white; of each it reports the one box around all pixels of that colour (channels above
    0.7 where the colour is on, below 0.4 where it is off) with score 0.9. Edges are exact to the pixel, so a wrong
    letterbox, colour order or row of the batch shows in the boxes.
    """
    width, height = size
    weights = {
        "high": np.array(0.7, dtype),
        "low": np.array(0.4, dtype),
        "x_end": np.arange(1, width + 1, dtype=dtype).reshape(1, 1, width),
        "y_end": np.arange(1, height + 1, dtype=dtype).reshape(1, 1, height),
        "x_far": (width - np.arange(width)).astype(dtype).reshape(1, 1, width),
        "y_far": (height - np.arange(height)).astype(dtype).reshape(1, 1, height),
        "width": np.array(width, dtype),
        "height": np.array(height, dtype),
        "half": np.array(0.5, dtype),
        "score": np.array(0.9, dtype),
        "pads": np.array([0, 0, 0, 0, 0, cell_count(size) - len(COLOURS)], np.int64),
        "unit": np.eye(len(COLOURS), dtype=dtype).reshape(1, len(COLOURS), len(COLOURS)),
    }
    nodes = [
        helper.make_node("Greater", ["images", "high"], ["on_bool"]),
        helper.make_node("Less", ["images", "low"], ["off_bool"]),
        helper.make_node("Cast", ["on_bool"], ["on"], to=_onnx_type(dtype)),
        helper.make_node("Cast", ["off_bool"], ["off"], to=_onnx_type(dtype)),
        helper.make_node("Split", ["on"], ["on_r", "on_g", "on_b"], axis=1),
        helper.make_node("Split", ["off"], ["off_r", "off_g", "off_b"], axis=1),
        *_product("red", ["on_r", "off_g", "off_b"]),
        *_product("green", ["off_r", "on_g", "off_b"]),
        *_product("blue", ["off_r", "off_g", "on_b"]),
        *_product("white", ["on_r", "on_g", "on_b"]),
        helper.make_node("Concat", list(COLOURS), ["mask"], axis=1),
        helper.make_node("ReduceMax", ["mask"], ["columns"], axes=[2], keepdims=0),
        helper.make_node("ReduceMax", ["mask"], ["rows"], axes=[3], keepdims=0),
        *_extent("x", "columns", "width"),
        *_extent("y", "rows", "height"),
        helper.make_node("ReduceMax", ["columns"], ["seen"], axes=[2], keepdims=1),
        helper.make_node("Concat", ["x_centre", "y_centre", "x_length", "y_length"], ["boxes"], axis=2),
        helper.make_node("Mul", ["boxes", "seen"], ["seen_boxes"]),
        helper.make_node("Mul", ["seen", "unit"], ["seen_units"]),
        helper.make_node("Mul", ["seen_units", "score"], ["class_scores"]),
        helper.make_node("Concat", ["seen_boxes", "class_scores"], ["found_rows"], axis=2),
        helper.make_node("Transpose", ["found_rows"], ["found"], perm=[0, 2, 1]),
        helper.make_node("Pad", ["found", "pads"], ["output0"]),
    ]
    shape = (4 + len(COLOURS), cell_count(size))
    return _save(path, nodes, weights, size, shape, dynamic_batch, dtype, _metadata(size, COLOURS))


def working_detector(path: Path, size: tuple[int, int] = (416, 416), *, layers: int = 8, classes: int = 80) -> Path:
    """Write a do-nothing detector that first runs ``layers`` 3x3 convolutions of 32 channels at a quarter of the size.

    A known amount of work: 2 * 9 * 32 * 32 * (width / 4) * (height / 4) operations a layer.
    """
    width, height = size
    random = np.random.default_rng(0)
    weights: dict[str, NDArray[Any]] = {
        "stem": random.standard_normal((32, 3, 4, 4)).astype(np.float32) * 0.1,
        "zero": np.array(0, np.float32),
        "constant": encode_boxes((), size, classes, "yolov8"),
        "row_shape": np.array([-1, 1, 1], np.int64),
    }
    nodes = [helper.make_node("Conv", ["images", "stem"], ["layer0"], strides=[4, 4])]
    for index in range(layers):
        weights[f"kernel{index}"] = random.standard_normal((32, 32, 3, 3)).astype(np.float32) * 0.05
        nodes.append(helper.make_node("Conv", [f"layer{index}", f"kernel{index}"], [f"sum{index}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"sum{index}"], [f"layer{index + 1}"]))
    nodes += [
        helper.make_node("ReduceMean", [f"layer{layers}"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Reshape", ["mean", "row_shape"], ["mean_row"]),
        helper.make_node("Mul", ["mean_row", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "constant"], ["output0"]),
    ]
    shape = (4 + classes, cell_count(size))
    names = [str(index) for index in range(classes)]
    return _save(path, nodes, weights, size, shape, False, "float32", _metadata((width, height), names))


def encode_boxes(
    boxes: Sequence[PlantedBox],
    size: tuple[int, int],
    classes: int,
    layout: Layout,
    anchors: int | None = None,
) -> NDArray[np.float32]:
    """Return the raw output (batch of 1) that means ``boxes`` in ``layout``."""
    count = cell_count(size) if anchors is None else anchors
    rows = np.zeros((count, (5 if layout == "yolox" else 4) + classes), np.float32)
    if layout == "yolox":
        taken: set[int] = set()
        for box in boxes:
            index, stride, column, row = _free_cell(box, size, taken)
            taken.add(index)
            x1, y1, x2, y2 = box.xyxy
            rows[index, 0] = (x1 + x2) / 2 / stride - column
            rows[index, 1] = (y1 + y2) / 2 / stride - row
            rows[index, 2] = np.log((x2 - x1) / stride)
            rows[index, 3] = np.log((y2 - y1) / stride)
            rows[index, 4] = box.score
            rows[index, 5 + box.class_id] = 1.0
    else:
        for index, box in enumerate(boxes):
            x1, y1, x2, y2 = box.xyxy
            rows[index, :4] = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
            rows[index, 4 + box.class_id] = box.score
    return np.ascontiguousarray(rows.T if layout == "yolov8" else rows)[None]


def _free_cell(box: PlantedBox, size: tuple[int, int], taken: set[int]) -> tuple[int, int, int, int]:
    """Return ``(index, stride, column, row)`` of a free grid cell that holds the box's centre."""
    x1, y1, x2, y2 = box.xyxy
    first = 0
    for stride in STRIDES:
        columns, rows = size[0] // stride, size[1] // stride
        column = min(int((x1 + x2) / 2 / stride), columns - 1)
        row = min(int((y1 + y2) / 2 / stride), rows - 1)
        index = first + row * columns + column
        if index not in taken:
            return index, stride, column, row
        first += columns * rows
    raise ValueError(f"no free grid cell for {box}: at most {len(STRIDES)} boxes may share a centre")


def _write_constant(
    path: Path,
    constant: NDArray[np.float32],
    size: tuple[int, int],
    classes: int,
    dynamic_batch: bool,
    dtype: str,
    metadata: bool,
) -> Path:
    """Write a model that answers ``constant`` for every picture of the batch."""
    weights: dict[str, NDArray[Any]] = {
        "constant": constant.astype(dtype),
        "starts": np.array([0, 0, 0], np.int64),
        "ends": np.array([1, 1, 1], np.int64),
        "axes": np.array([1, 2, 3], np.int64),
        "row_shape": np.array([-1, 1, 1], np.int64),
        "zero": np.array(0, dtype),
    }
    nodes = [
        helper.make_node("Slice", ["images", "starts", "ends", "axes"], ["corner"]),
        helper.make_node("Reshape", ["corner", "row_shape"], ["corner_row"]),
        helper.make_node("Mul", ["corner_row", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "constant"], ["output0"]),
    ]
    facts = _metadata(size, [str(index) for index in range(classes)]) if metadata else {}
    return _save(path, nodes, weights, size, constant.shape[1:], dynamic_batch, dtype, facts)


def _product(name: str, factors: list[str]) -> list[onnx.NodeProto]:
    first, second, third = factors
    return [
        helper.make_node("Mul", [first, second], [f"{name}_pair"]),
        helper.make_node("Mul", [f"{name}_pair", third], [name]),
    ]


def _extent(axis: str, profile: str, length: str) -> list[onnx.NodeProto]:
    """Centre and length, ``[N, colours, 1]`` each, of the span where ``profile`` is 1."""
    return [
        helper.make_node("Mul", [profile, f"{axis}_far"], [f"{axis}_far_on"]),
        helper.make_node("ReduceMax", [f"{axis}_far_on"], [f"{axis}_farthest"], axes=[2], keepdims=1),
        helper.make_node("Sub", [length, f"{axis}_farthest"], [f"{axis}_first"]),
        helper.make_node("Mul", [profile, f"{axis}_end"], [f"{axis}_end_on"]),
        helper.make_node("ReduceMax", [f"{axis}_end_on"], [f"{axis}_last"], axes=[2], keepdims=1),
        helper.make_node("Sub", [f"{axis}_last", f"{axis}_first"], [f"{axis}_length"]),
        helper.make_node("Add", [f"{axis}_last", f"{axis}_first"], [f"{axis}_sum"]),
        helper.make_node("Mul", [f"{axis}_sum", "half"], [f"{axis}_centre"]),
    ]


def _metadata(size: tuple[int, int], names: Sequence[str]) -> dict[str, str]:
    """What the common exporters embed."""
    return {
        "task": "detect",
        "stride": "32",
        "imgsz": str([size[1], size[0]]),
        "names": str(dict(enumerate(names))),
    }


def _save(
    path: Path,
    nodes: list[onnx.NodeProto],
    weights: dict[str, NDArray[Any]],
    size: tuple[int, int],
    output_shape: tuple[int, ...],
    dynamic_batch: bool,
    dtype: str,
    metadata: dict[str, str],
) -> Path:
    batch = "batch" if dynamic_batch else 1
    onnx_type = _onnx_type(dtype)
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info("images", onnx_type, [batch, 3, size[1], size[0]])],
        [helper.make_tensor_value_info("output0", onnx_type, [batch, *output_shape])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def _onnx_type(dtype: str) -> int:
    return {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}[dtype]
