"""Detectors that answer one row (or column) for every grid cell: YOLOv5, v7, v8, 9, 11, 12, YOLOX, NanoDet.

All readings that the shape allows are listed, then those that contradict what is known are struck out: stated facts,
the number of classes, the graph's wiring, and last, for 84 and 85 numbers a candidate, that COCO has 80 classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engines.clues import Clues, Match
from engines.errors import ModelError
from engines.model_spec import Family, Origin, TensorSpec

_COCO_CLASSES = 80
_NANODET_BOX = 32
"""Four sides, each a distribution over eight distances."""


@dataclass(frozen=True)
class _Reading:
    """One way to understand an output."""

    family: Family
    rows: str
    """"candidates" or "channels": what the output's second dimension counts."""
    classes: int
    strides: tuple[int, ...]
    final: bool = False
    """Rows of x1, y1, x2, y2, score, class: nothing dense after all."""

    def __str__(self) -> str:
        if self.final:
            return "finished boxes (family end_to_end)"
        objectness = " beside objectness" if self.family in ("yolov5", "yolox") else ""
        return f"{self.classes} classes{objectness} (family {self.family}, rows: {self.rows})"


def dense(clues: Clues) -> Match | None:
    """Recognise one output of rank 3 whose candidates are the cells of a grid. Raises ModelError where it asks."""
    output = _dense_output(clues)
    if output is None or not clues.stated_family("yolov5", "yolov8", "yolox", "nanodet"):
        return None
    readings = [reading for reading in _readings(clues, output) if clues.stated_family(reading.family)]
    if not readings and "family" in clues.stated:
        # The user knows better than the grids that are known here; only heads that need no grid can follow.
        every = _readings(clues, output, any_count=True)
        readings = [reading for reading in every if clues.stated_family(reading.family)]
    if "rows" in clues.stated:
        readings = [reading for reading in readings if reading.rows == clues.stated["rows"]]
    if not readings:
        return None
    reading, origin = _settle(clues, output, readings)
    if reading.final:
        return None
    options: dict[str, object] = {"output": output.name, "rows": reading.rows}
    if reading.family in ("yolox", "nanodet"):
        options["strides"] = reading.strides
    return Match(reading.family, reading.classes, clues.settled(origin), options=options)


def _readings(clues: Clues, output: TensorSpec, *, any_count: bool = False) -> list[_Reading]:
    """Return all readings of ``[N, P, Q]`` that its shape allows; ``any_count`` of candidates, or those of a grid."""
    _, first, second = output.shape
    readings = []
    if first and first > 4 and (clues.grid_of(second) or second is None or any_count):
        readings.append(_Reading("yolov8", "channels", first - 4, ()))
    if second and second > 4:
        grid = clues.grid_of(first) or ((8, 16, 32) if first is None else None)
        if grid or any_count:
            readings.append(_Reading("yolov8", "candidates", second - 4, ()))
        if second > 5 and (grid or clues.grid_of(first, 3) or any_count):
            readings.append(_Reading("yolov5", "candidates", second - 5, ()))
        if second > 5 and grid:
            readings.append(_Reading("yolox", "candidates", second - 5, grid))
        if second > _NANODET_BOX and grid:
            readings.append(_Reading("nanodet", "candidates", second - _NANODET_BOX, grid))
        if readings and second == 6 and (first is None or first <= 1000):
            readings.append(_Reading("yolov8", "candidates", 0, (), final=True))
    return readings


def _settle(clues: Clues, output: TensorSpec, readings: list[_Reading]) -> tuple[_Reading, Origin]:
    """Strike out readings until one sort is left, or ask for the fact that would decide."""
    origin: Origin = "shape"
    named: Origin = "override" if "classes" in clues.stated else "metadata"
    if clues.class_count is not None and not any(_agrees(reading, clues.class_count) for reading in readings):
        seen = f"{_shown(output)} holds {_either(readings)}, but {clues.class_count} are named"
        raise clues.ask("classes", seen, "classes")
    says_final, selects = _says_final(clues), bool({"TopK", "NonMaxSuppression"} & clues.trace.op_types)
    channels = clues.trace.channels_behind(output.name)
    strikes: tuple[tuple[Origin, Callable[[_Reading], bool]], ...] = (
        ("metadata", lambda reading: says_final is None or reading.final == says_final),
        ("structure", lambda reading: reading.final == selects),
        (named, lambda reading: clues.class_count is None or _agrees(reading, clues.class_count)),
        ("structure", lambda reading: reading.family in ("yolox", "nanodet") or not _is_raw(clues, output)),
        ("structure", lambda reading: _is_convolved(reading, channels)),
        ("shape", lambda reading: reading.classes == _COCO_CLASSES),
    )
    for who, agrees in strikes:
        left = [reading for reading in readings if agrees(reading)]
        if left and len({_sort(reading) for reading in left}) < len({_sort(reading) for reading in readings}):
            readings, origin = left, who
    sorts = {_sort(reading) for reading in readings}
    if len(sorts) > 1:
        unclear = "rows" if len({reading.rows for reading in readings}) > 1 else "classes"
        wanted = "rows: candidates or rows: channels" if unclear == "rows" else "classes (names or number) or family"
        raise clues.ask(unclear, f"{_shown(output)} holds {_either(readings)}", wanted)
    return _raw_or_decoded(clues, output, readings, origin)


def _agrees(reading: _Reading, class_count: int) -> bool:
    """Whether the reading has so many classes; finished boxes do not show how many there are."""
    return reading.final or reading.classes == class_count


def _is_convolved(reading: _Reading, channels: frozenset[int]) -> bool:
    """Whether the last convolutions have as many channels as the reading has classes, and one for its objectness."""
    if reading.family == "nanodet":
        return reading.classes + _NANODET_BOX in channels or {reading.classes, _NANODET_BOX} <= channels
    if reading.family == "yolov5" and _is_anchored(reading, channels):
        return True
    return reading.classes in channels and (reading.family == "yolov8" or 1 in channels)


def _is_anchored(reading: _Reading, channels: frozenset[int]) -> bool:
    """Whether one convolution makes everything for three anchors a cell."""
    return 3 * (reading.classes + 5) in channels


def _raw_or_decoded(
    clues: Clues, output: TensorSpec, readings: list[_Reading], origin: Origin
) -> tuple[_Reading, Origin]:
    """Choose between a raw grid and boxes that the graph decoded, which look alike from outside."""
    if len(readings) == 1:
        return readings[0], origin
    channels = clues.trace.channels_behind(output.name)
    decoded = clues.trace.decodes_boxes(output.name, output.shape[1]) or _is_anchored(readings[0], channels)
    for reading in readings:
        if reading.family == ("yolov5" if decoded else "yolox"):
            return reading, "structure" if decoded or _is_raw(clues, output) else origin
    return readings[0], origin


def _sort(reading: _Reading) -> tuple[str, str, bool]:
    """What must be known before the wiring may decide between raw and decoded."""
    return reading.rows, reading.family.replace("yolox", "yolov5"), reading.final


def _is_raw(clues: Clues, output: TensorSpec) -> bool:
    """Whether the output comes straight from convolutions, as only a raw grid does."""
    makers = clues.trace.makers(output.name)
    return bool(makers) and makers <= {"Conv", "Sigmoid"}


def _says_final(clues: Clues) -> bool | None:
    """Return whether metadata says that boxes are finished (Ultralytics: ``end2end``, ``nms``); None: it is silent."""
    metadata = clues.file.metadata
    if "end2end" not in metadata and "args" not in metadata:
        return None
    return metadata.get("end2end", "").lower() == "true" or "'nms': True" in metadata.get("args", "")


def _dense_output(clues: Clues) -> TensorSpec | None:
    """Return the one output of rank 3; raw feature maps beside it are ignored."""
    flat = [output for output in clues.outputs if len(output.shape) == 3]
    maps = [output for output in clues.outputs if len(output.shape) in (4, 5)]
    if len(flat) != 1 or len(flat) + len(maps) != len(clues.outputs):
        return None
    if len(maps) == 1 and clues.file.metadata.get("task") != "detect":
        raise ModelError(
            f"model {clues.file.path}: is a segmentation model (mask prototypes in '{maps[0].name}'), "
            "and boxes are all that is read here. Export the detection model of the same family."
        )
    return flat[0]


def _shown(output: TensorSpec) -> str:
    return f"{output.name} [{', '.join(str(length or '?') for length in output.shape)}]"


def _either(readings: list[_Reading]) -> str:
    return " or ".join(dict.fromkeys(str(reading) for reading in readings))
