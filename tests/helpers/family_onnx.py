"""Planted detectors of every family: what each one's outputs look like, as arrays and as ONNX files that run.

``LAYOUTS`` names every form in which a family is exported; a test that runs over it covers a new one at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.helpers.tiny_onnx import OPSET, PlantedBox, encode_boxes

LAYOUTS: dict[str, str] = {  # layout -> family
    "yolov5": "yolov5",
    "yolov8": "yolov8",
    "yolov8_rows": "yolov8",
    "yolox": "yolox",
    "end_to_end": "end_to_end",
    "end_to_end_list": "end_to_end",
    "efficient_nms": "efficient_nms",
    "detr": "detr",
    "queries": "queries",
    "split": "split",
    "nanodet": "nanodet",
}
DENSE = ("yolov5", "yolov8", "yolov8_rows", "yolox", "nanodet")
APART = ("queries", "split")
FINAL_ROWS = 100

Outputs = dict[str, NDArray[Any]]


def head_options(layout: str) -> dict[str, object]:
    """Return what the family's head is told of this layout."""
    options: dict[str, dict[str, object]] = {
        "yolov8": {"rows": "channels"},
        "yolov8_rows": {"rows": "candidates"},
        "end_to_end_list": {"columns": ("batch", "x1", "y1", "x2", "y2", "class", "score")},
        "efficient_nms": {
            "boxes": "det_boxes",
            "scores": "det_scores",
            "labels": "det_classes",
            "count": "num_dets",
        },
        "detr": {"boxes": "boxes", "scores": "scores", "labels": "labels"},
        "queries": {"boxes": "pred_boxes", "scores": "logits", "logits": True},
        "split": {"boxes": "boxes", "scores": "scores"},
    }
    return options.get(layout, {})


def encode(boxes: Sequence[PlantedBox], size: tuple[int, int], classes: int, layout: str) -> Outputs:
    """Return the outputs, by name, that mean ``boxes`` in one picture."""
    if layout == "yolov5":
        return {"output": _yolov5(boxes, size, classes)}
    if layout == "nanodet":
        return {"output": _nanodet(boxes, size, classes)}
    if layout in DENSE:
        return {"output0": encode_boxes(boxes, size, classes, layout)}  # type: ignore[arg-type]
    if layout in APART:
        return _apart(boxes, size, classes, layout)
    count = len(boxes)
    xyxy, scores, labels = np.zeros((1, FINAL_ROWS, 4)), np.zeros((1, FINAL_ROWS)), np.zeros((1, FINAL_ROWS))
    for place, box in enumerate(boxes):
        xyxy[0, place], scores[0, place], labels[0, place] = box.xyxy, box.score, box.class_id
    if layout == "end_to_end":
        return {"output0": np.concatenate([xyxy, scores[..., None], labels[..., None]], axis=2).astype(np.float32)}
    if layout == "end_to_end_list":
        rows = [[np.zeros((count, 1)), xyxy[0, :count], labels[0, :count, None], scores[0, :count, None]]]
        return {"output": np.concatenate(rows[0], axis=1).astype(np.float32)}
    finished = {"boxes": xyxy.astype(np.float32), "scores": scores.astype(np.float32)}
    if layout == "detr":
        return {"labels": labels.astype(np.int64), **finished}
    return {
        "num_dets": np.array([[count]], np.int32),
        "det_boxes": finished["boxes"],
        "det_scores": finished["scores"],
        "det_classes": labels.astype(np.int32),
    }


def planted_family(
    path: Path,
    layout: str,
    boxes: Sequence[PlantedBox],
    *,
    size: tuple[int, int] = (320, 256),
    classes: int = 80,
    dynamic_batch: bool = False,
    dtype: str = "float32",
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write a detector of ``layout`` that reports ``boxes`` for every picture of the batch.

    A list of all pictures' boxes (``end_to_end_list``) is that of the batch's first picture.
    """
    float_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    batch = "batch" if dynamic_batch else 1
    inputs = [helper.make_tensor_value_info("images", float_type, [batch, 3, size[1], size[0]])]
    if layout == "detr":
        inputs.append(helper.make_tensor_value_info("orig_target_sizes", TensorProto.INT64, [batch, 2]))
    weights: dict[str, NDArray[Any]] = {
        "starts": np.zeros(3, np.int64),
        "ends": np.ones(3, np.int64),
        "axes": np.array([1, 2, 3], np.int64),
        "zero": np.array(0, dtype),
    }
    nodes = [
        helper.make_node("Slice", ["images", "starts", "ends", "axes"], ["corner"]),
        helper.make_node("Mul", ["corner", "zero"], ["nothing"]),
    ]
    outputs = []
    for name, array in encode(boxes, size, classes, layout).items():
        typed = array.astype(dtype) if array.dtype == np.float32 else array
        by_picture = layout != "end_to_end_list"
        weights[f"{name}_is"] = typed
        weights[f"{name}_shape"] = np.array([-1, *[1] * (array.ndim - 1)], np.int64)
        nodes += _answer(name, typed, by_picture)
        shape = [batch, *array.shape[1:]] if by_picture else ["boxes", array.shape[1]]
        onnx_type = helper.np_dtype_to_tensor_dtype(typed.dtype)
        outputs.append(helper.make_tensor_value_info(name, onnx_type, shape))
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    helper.set_model_props(model, dict(metadata or {}))
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def _answer(name: str, array: NDArray[Any], by_picture: bool) -> list[onnx.NodeProto]:
    """Nodes that give ``array`` for every picture, whatever is in it."""
    if not by_picture:
        return [helper.make_node("Identity", [f"{name}_is"], [name])]
    onnx_type = helper.np_dtype_to_tensor_dtype(array.dtype)
    return [
        helper.make_node("Reshape", ["nothing", f"{name}_shape"], [f"{name}_flat"]),
        helper.make_node("Cast", [f"{name}_flat"], [f"{name}_zero"], to=onnx_type),
        helper.make_node("Add", [f"{name}_zero", f"{name}_is"], [name]),
    ]


def _apart(boxes: Sequence[PlantedBox], size: tuple[int, int], classes: int, layout: str) -> Outputs:
    """Boxes and scores of all classes as two outputs: corners and scores of cells, or queries and logits."""
    cells = sum((size[0] // stride) * (size[1] // stride) for stride in (8, 16, 32))
    count = cells if layout == "split" else 300
    xyxy, scores = np.zeros((1, count, 4), np.float32), np.zeros((1, count, classes), np.float32)
    for place, box in enumerate(boxes):
        xyxy[0, place], scores[0, place, box.class_id] = box.xyxy, box.score
    if layout == "split":
        return {"boxes": xyxy, "scores": scores}
    corners = xyxy / np.array([*size, *size], np.float32)
    centred = np.concatenate([(corners[..., :2] + corners[..., 2:]) / 2, corners[..., 2:] - corners[..., :2]], axis=2)
    certain = np.clip(scores, 1e-4, 1 - 1e-6)
    return {"logits": np.log(certain / (1 - certain)), "pred_boxes": centred}


def _nanodet(boxes: Sequence[PlantedBox], size: tuple[int, int], classes: int) -> NDArray[np.float32]:
    """Class scores, then for each side a distribution whose mean is its distance from the cell, in strides."""
    taken: set[int] = set()
    strides = (8, 16, 32, 64)
    grids = [(-(-size[0] // stride), -(-size[1] // stride)) for stride in strides]
    output = np.zeros((1, sum(columns * lines for columns, lines in grids), classes + 32), np.float32)
    for box in boxes:
        cell, sides = _nanodet_cell(box, strides, grids, taken)
        taken.add(cell)
        low = np.minimum(np.floor(sides).astype(int), 6)
        logits = np.full((4, 8), -30.0)
        logits[range(4), low] = np.log(np.maximum(1 - (sides - low), 1e-9))
        logits[range(4), low + 1] = np.log(np.maximum(sides - low, 1e-9))
        output[0, cell, box.class_id] = box.score
        output[0, cell, classes:] = logits.ravel()
    return output


def _nanodet_cell(
    box: PlantedBox, strides: Sequence[int], grids: Sequence[tuple[int, int]], taken: set[int]
) -> tuple[int, NDArray[np.float64]]:
    """Return a free cell whose corner is in the box and at most 7 strides from its sides, and those distances."""
    x1, y1, x2, y2 = box.xyxy
    first = 0
    for stride, (columns, lines) in zip(strides, grids, strict=True):
        for line, column in np.ndindex(lines, columns):
            x, y, cell = column * stride, line * stride, first + line * columns + column
            sides = np.array([x - x1, y - y1, x2 - x, y2 - y]) / stride
            if cell not in taken and sides.min() >= 0 and sides.max() <= 7:
                return cell, sides
        first += columns * lines
    raise ValueError(f"no free cell for {box}")


def _yolov5(boxes: Sequence[PlantedBox], size: tuple[int, int], classes: int) -> NDArray[np.float32]:
    cells = sum((size[0] // stride) * (size[1] // stride) for stride in (8, 16, 32))
    rows = np.zeros((1, 3 * cells, 5 + classes), np.float32)
    for place, box in enumerate(boxes):
        x1, y1, x2, y2 = box.xyxy
        rows[0, place, :5] = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, box.score)
        rows[0, place, 5 + box.class_id] = 1
    return rows
