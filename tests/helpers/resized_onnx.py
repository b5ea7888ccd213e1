"""Real detectors at other input sizes, made from the test data's files of one size.

Convolutions do not care about the size of a picture; only what exporters write down for one size must be rewritten.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

STRIDES = (8, 16, 32)


def open_size_yolox(model: Path, path: Path) -> Path:
    """Write a YOLOX whose height and width are open; nothing in its graph is tied to a size."""
    proto = onnx.load(model)
    picture, output = proto.graph.input[0].type.tensor_type, proto.graph.output[0].type.tensor_type
    picture.shape.dim[2].dim_param, picture.shape.dim[3].dim_param = "height", "width"
    output.shape.dim[1].dim_param = "cells"
    del proto.graph.value_info[:]
    onnx.save(proto, str(path))
    return path


def resized_yolov8(model: Path, path: Path, size: tuple[int, int]) -> Path:
    """Write a YOLOv8 export for ``size`` (width, height, multiples of 32): its grid and its shapes are constants."""
    width, height = size
    proto = onnx.load(model)
    graph = proto.graph
    old = graph.output[0].type.tensor_type.shape.dim[2].dim_value
    points, strides = _grid(width, height)
    cells = len(strides)
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.shape == (1, 2, old):
            tensor.CopyFrom(numpy_helper.from_array(points.T[None], tensor.name))
        elif values.shape == (1, old):
            tensor.CopyFrom(numpy_helper.from_array(strides[None], tensor.name))
        elif values.dtype == np.int64 and old in values:
            tensor.CopyFrom(numpy_helper.from_array(np.where(values == old, cells, values), tensor.name))
    picture = graph.input[0].type.tensor_type.shape
    picture.dim[2].dim_value, picture.dim[3].dim_value = height, width
    graph.output[0].type.tensor_type.shape.dim[2].dim_value = cells
    del graph.value_info[:]
    facts = {entry.key: entry.value for entry in proto.metadata_props}
    onnx.helper.set_model_props(proto, {**facts, "imgsz": str([height, width])})
    onnx.save(proto, str(path))
    return path


def _grid(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Return float32 centres ``[cells, 2]`` in grid units, and strides ``[cells]``, as the exporter lays them out."""
    points, strides = [], []
    for stride in STRIDES:
        columns, rows = np.meshgrid(np.arange(width // stride) + 0.5, np.arange(height // stride) + 0.5)
        points.append(np.stack([columns.ravel(), rows.ravel()], 1))
        strides.append(np.full(columns.size, stride))
    return np.concatenate(points).astype(np.float32), np.concatenate(strides).astype(np.float32)
