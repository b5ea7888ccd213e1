"""Where each family's boxes, scores and classes lie in its outputs, as ``struct Head`` of heads.cu says it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.buffers import DeviceTensor
from engines.errors import RunError
from engines.model_spec import ModelSpec
from pipeline.postprocess.end_to_end import COLUMNS
from pipeline.postprocess.yolox import grid

VALUES = np.dtype(
    [
        ("address", "<u8"),
        ("by_picture", "<i8"),
        ("by_candidate", "<i8"),
        ("by_value", "<i8"),
        ("type", "<i4"),
        ("unused", "<i4"),
    ]
)
HEAD = np.dtype(
    [
        *((name, VALUES) for name in ("boxes", "scores", "objectness", "labels", "counts", "pictures")),
        ("cells", "<u8"),
        ("wanted", "<u8"),
        *((name, "<i4") for name in ("candidates", "classes", "wanted_count", "max_candidates", "max_detections")),
        *((name, "<i4") for name in ("box_kind", "suppresses", "logits", "checks_all")),
        *((name, "<f4") for name in ("iou_threshold", "input_width", "input_height")),
    ]
)
TALLY = np.dtype([("found", "<i4"), ("confident", "<i4"), ("not_a_number", "<i4"), ("unused", "<i4")])

_TYPES = {"float32": 0, "float16": 1, "int32": 2, "int64": 3}
_CORNERS, _CENTRED, _CENTRED_PARTS, _GRID, _DISTRIBUTION = range(5)
_DISTANCES = 32

Tensors = Mapping[str, DeviceTensor]


def describe_head(spec: ModelSpec, outputs: Tensors, cells: int, wanted: tuple[int, int]) -> NDArray[Any]:
    """Return one ``HEAD`` record without thresholds and limits.

    ``cells``: address of ``cells_of`` on the device; ``wanted``: address and length of the mask of class ids to keep, 0
    for all. Raises RunError for a type that is not read on the device.
    """
    record = np.zeros(1, HEAD)
    record["cells"] = cells
    record["wanted"], record["wanted_count"] = wanted
    record["suppresses"] = not spec.has_nms
    record["input_width"], record["input_height"] = spec.input_width, spec.input_height
    record["classes"] = 1
    FAMILIES[spec.family](record, spec, outputs)
    return record


def cells_of(spec: ModelSpec) -> NDArray[np.float32] | None:
    """Return column, row and stride of each cell of a grid head, float32 ``[A, 3]``; None for other heads."""
    defaults = {"yolox": (8, 16, 32), "nanodet": (8, 16, 32, 64)}
    if spec.family not in defaults:
        return None
    strides = spec.head_options.get("strides", defaults[spec.family])
    assert isinstance(strides, Sequence)
    cells, steps = grid(spec.input_width, spec.input_height, strides)
    return np.concatenate([cells, steps], axis=1)


def _by_rows(record: NDArray[Any], field: str, tensor: DeviceTensor, begin: int = 0) -> None:
    """Say that ``field`` begins at value ``begin`` of each row of ``[N, A, values]``, ``[N, A]`` or ``[A, values]``."""
    shape = tensor.shape
    if len(shape) == 2:
        shape = (*shape, 1)
    _, candidates, values = shape
    _place(record, field, tensor, begin, (candidates * values, values, 1))


def _place(record: NDArray[Any], field: str, tensor: DeviceTensor, begin: int, steps: tuple[int, int, int]) -> None:
    name = tensor.dtype.name
    if name not in _TYPES:
        raise RunError(f"an output of type {name} cannot be read on the GPU. Allowed: {', '.join(_TYPES)}.")
    record[field] = (tensor.pointer + begin * tensor.dtype.itemsize, *steps, _TYPES[name], 0)


def _only(spec: ModelSpec, outputs: Tensors) -> DeviceTensor:
    return outputs[str(spec.head_options.get("output", spec.outputs[0].name))]


def _yolov8(record: NDArray[Any], spec: ModelSpec, outputs: Tensors) -> None:
    output = _only(spec, outputs)
    record["box_kind"] = _CENTRED
    if spec.head_options.get("rows", "channels") == "channels":
        _, values, candidates = output.shape
        steps = (values * candidates, 1, candidates)
        _place(record, "boxes", output, 0, steps)
        _place(record, "scores", output, 4 * candidates, steps)
    else:
        _, candidates, values = output.shape
        _by_rows(record, "boxes", output)
        _by_rows(record, "scores", output, 4)
    record["candidates"], record["classes"] = candidates, values - 4


def _with_objectness(box_kind: int) -> Callable[[NDArray[Any], ModelSpec, Tensors], None]:
    def describe(record: NDArray[Any], spec: ModelSpec, outputs: Tensors) -> None:
        output = _only(spec, outputs)
        record["box_kind"] = box_kind
        for field, begin in (("boxes", 0), ("objectness", 4), ("scores", 5)):
            _by_rows(record, field, output, begin)
        record["candidates"], record["classes"] = output.shape[1], output.shape[2] - 5

    return describe


def _nanodet(record: NDArray[Any], spec: ModelSpec, outputs: Tensors) -> None:
    output = _only(spec, outputs)
    classes = output.shape[2] - _DISTANCES
    _by_rows(record, "scores", output)
    _by_rows(record, "boxes", output, classes)
    record["box_kind"], record["candidates"], record["classes"] = _DISTRIBUTION, output.shape[1], classes


def _end_to_end(record: NDArray[Any], spec: ModelSpec, outputs: Tensors) -> None:
    output = outputs[spec.outputs[0].name]
    columns = spec.head_options.get("columns", COLUMNS)
    assert isinstance(columns, Sequence)
    for field, column in (("boxes", "x1"), ("scores", "score"), ("labels", "class"), ("pictures", "batch")):
        if column not in columns:
            continue
        begin = list(columns).index(column)
        if len(output.shape) == 2:  # one list for all pictures
            _place(record, field, output, begin, (0, output.shape[1], 1))
        else:
            _by_rows(record, field, output, begin)
    record["checks_all"] = 2
    record["candidates"] = output.shape[-2]


def _apart(record: NDArray[Any], spec: ModelSpec, outputs: Tensors) -> None:
    for field in ("boxes", "scores", "labels"):
        _by_rows(record, field, outputs[str(spec.head_options[field])])
    if "count" in spec.head_options:
        _place(record, "counts", outputs[str(spec.head_options["count"])], 0, (1, 0, 0))
    record["checks_all"] = 1
    record["candidates"] = outputs[str(spec.head_options["boxes"])].shape[1]


def _queries(record: NDArray[Any], spec: ModelSpec, outputs: Tensors) -> None:
    options = spec.head_options
    record["logits"] = bool(options.get("logits"))
    record["box_kind"] = _CENTRED_PARTS
    if options.get("joined") is not None:
        joined = outputs[str(options["joined"])]
        _by_rows(record, "boxes", joined)
        _by_rows(record, "scores", joined, 4)
        record["candidates"], record["classes"] = joined.shape[1], joined.shape[2] - 4
    else:
        _boxes_and_scores(record, spec, outputs)


def _split(record: NDArray[Any], spec: ModelSpec, outputs: Tensors) -> None:
    _boxes_and_scores(record, spec, outputs)


def _boxes_and_scores(record: NDArray[Any], spec: ModelSpec, outputs: Tensors) -> None:
    boxes, scores = (outputs[str(spec.head_options[key])] for key in ("boxes", "scores"))
    _by_rows(record, "boxes", boxes)
    _by_rows(record, "scores", scores)
    record["candidates"], record["classes"] = scores.shape[1], scores.shape[2]


FAMILIES: dict[str, Callable[[NDArray[Any], ModelSpec, Tensors], None]] = {  # ModelSpec.family -> its description
    "yolov5": _with_objectness(_CENTRED),
    "yolov8": _yolov8,
    "yolox": _with_objectness(_GRID),
    "end_to_end": _end_to_end,
    "efficient_nms": _apart,
    "detr": _apart,
    "queries": _queries,
    "split": _split,
    "nanodet": _nanodet,
}
"""Same keys as ``HEADS``: a family that the host reads is read on the device, too."""
