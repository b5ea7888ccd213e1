"""Which family a detector belongs to, from its outputs' shapes, its metadata and its wiring.

``recognise`` walks ``_FAMILIES`` in order and takes the first that fits. A family is one function here and one head in
``pipeline.postprocess``. Where shapes alone leave two answers, class names in the file and the graph's wiring decide;
where they do not either, the missing fact is asked for by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from engines.errors import ModelError
from engines.graph_trace import GraphTrace
from engines.model_file import ModelFile
from engines.model_spec import Family, Origin, TensorSpec

_STRIDE_SETS = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32))


@dataclass(frozen=True)
class Clues:
    """All that recognition may look at."""

    file: ModelFile
    outputs: tuple[TensorSpec, ...]
    """The file's outputs, with the dimensions that follow from the input size filled in."""
    width: int
    height: int
    class_count: int | None
    """How many classes metadata or an override name; None where nobody says."""
    trace: GraphTrace
    stated: Mapping[str, object]
    """The user's overrides."""


@dataclass(frozen=True)
class Match:
    """A recognised family."""

    family: Family
    classes: int
    origin: Origin
    """What settled the family."""
    has_nms: bool = False
    options: Mapping[str, object] = field(default_factory=dict)
    origins: Mapping[str, Origin] = field(default_factory=dict)


def recognise(clues: Clues) -> Match:
    """Return the model's family. Raises ModelError for what is no detector, and for what cannot be told apart."""
    _refuse_other_tasks(clues)
    for family in _FAMILIES:
        match = family(clues)
        if match is not None:
            return match
    _refuse_shapes(clues)
    raise ModelError(
        f"model {clues.file.path}: its family cannot be worked out. Seen: {clues.file.seen()}. "
        f"Say what it is in {clues.file.path.with_suffix('.yaml').name} beside it: family, rows, classes."
    )


def grid_of(candidates: int | None, width: int, height: int, anchors: int = 1) -> tuple[int, ...] | None:
    """Return the strides whose grids over ``width x height`` hold ``candidates`` cells of ``anchors`` each."""
    for strides in _STRIDE_SETS:
        if candidates == anchors * sum(-(-width // s) * -(-height // s) for s in strides):
            return strides
    return None


def _dense(clues: Clues) -> Match | None:
    """One output with a row (or column) of box and scores for every grid cell."""
    output = _dense_output(clues)
    if output is None:
        return None
    _, rows, columns = output.shape
    by_rows = grid_of(rows, clues.width, clues.height) or _stated_grid(clues, rows)
    by_columns = grid_of(columns, clues.width, clues.height) or _stated_grid(clues, columns)
    if by_rows and by_columns and "rows" not in clues.stated:
        raise _ask(
            clues, "rows", f"both dimensions of {output.name} fit the grid", "rows: candidates or rows: channels"
        )
    stated = clues.stated.get("rows")
    if (by_columns or (columns is None and rows)) and stated != "candidates":
        return _channels_first(clues, rows)
    if (by_rows or (rows is None and columns)) and stated != "channels":
        return _candidates_first(clues, output, by_rows or (8, 16, 32))
    return None


def _channels_first(clues: Clues, channels: int | None) -> Match | None:
    """``[N, 4 + C, A]``: only the anchor-free family exports channels first."""
    if channels is None or channels < 5 or clues.stated.get("family", "yolov8") != "yolov8":
        return None
    _check_class_count(clues, channels - 4, f"{channels} channels are 4 for the box and {channels - 4} for classes")
    return Match("yolov8", channels - 4, _settled(clues, "shape"), options={"rows": "channels"})


def _candidates_first(clues: Clues, output: TensorSpec, strides: tuple[int, ...]) -> Match | None:
    """``[N, A, 4 + C]`` or ``[N, A, 5 + C]``: with or without objectness, raw or decoded."""
    candidates, columns = output.shape[1], output.shape[2]
    if columns is None or columns < 5:
        return None
    objectness, origin = _has_objectness(clues, output, columns)
    if not objectness:
        _check_class_count(clues, columns - 4, f"{columns} columns are 4 for the box and {columns - 4} for classes")
        return Match("yolov8", columns - 4, origin, options={"rows": "candidates"})
    _check_class_count(clues, columns - 5, f"{columns} columns are 5 for box and objectness, {columns - 5} for classes")
    if clues.stated.get("family") != "yolox" and clues.trace.decodes_boxes(output.name, candidates):
        return None
    return Match("yolox", columns - 5, origin, options={"strides": strides})


def _has_objectness(clues: Clues, output: TensorSpec, columns: int) -> tuple[bool, Origin]:
    """Whether column 4 is objectness: told by the user, the count of class names, the wiring or COCO's 80 classes."""
    family = clues.stated.get("family")
    if family is not None:
        return family != "yolov8", "override"
    if clues.class_count in (columns - 4, columns - 5):
        return clues.class_count == columns - 5, _class_origin(clues)
    if clues.class_count is not None:
        raise _ask(
            clues,
            "classes",
            f"{output.name} has {columns} columns a candidate, which holds {columns - 4} classes, or {columns - 5} "
            f"beside objectness, but {clues.class_count} are named",
            "classes",
        )
    makers = clues.trace.makers(output.name)
    if makers and makers <= {"Conv", "Sigmoid"}:
        return True, "structure"
    if columns in (84, 85):
        return columns == 85, "shape"
    raise _ask(
        clues,
        "classes",
        f"{output.name} has {columns} columns a candidate: {columns - 4} classes (family yolov8), or {columns - 5} "
        "beside objectness (family yolox)",
        "classes (their names or number) or family",
    )


def _dense_output(clues: Clues) -> TensorSpec | None:
    """Return the one output of rank 3; raw feature maps beside it are ignored."""
    flat = [output for output in clues.outputs if len(output.shape) == 3]
    maps = [output for output in clues.outputs if len(output.shape) in (4, 5)]
    if len(flat) != 1 or len(flat) + len(maps) != len(clues.outputs):
        return None
    if len(maps) == 1:
        raise ModelError(
            f"model {clues.file.path}: is a segmentation model (mask prototypes in '{maps[0].name}'), "
            "and boxes are all that is read here. Export the detection model of the same family."
        )
    return flat[0]


def _stated_grid(clues: Clues, candidates: int | None) -> tuple[int, ...] | None:
    strides = clues.stated.get("strides")
    if not isinstance(strides, tuple):
        return None
    cells = sum(-(-clues.width // s) * -(-clues.height // s) for s in strides)
    return strides if candidates == cells else None


def _check_class_count(clues: Clues, found: int, why: str) -> None:
    if clues.class_count is not None and clues.class_count != found:
        raise _ask(clues, "classes", f"{why}, but {clues.class_count} are named", "classes")
    if found < 1:
        raise _ask(clues, "family", f"{why}: no class is left", "family")


def _refuse_other_tasks(clues: Clues) -> None:
    task = clues.file.metadata.get("task", "detect").strip().strip("'\"").lower()
    if task not in ("detect", "detection", "object-detection"):
        what = {"segment": "a segmentation", "classify": "a classification", "pose": "a pose", "obb": "a rotated-box"}
        raise ModelError(
            f"model {clues.file.path}: is {what.get(task, 'another')} model (metadata: task {task}), not a detector. "
            "Export the detection model of the same family."
        )


def _refuse_shapes(clues: Clues) -> None:
    """Raise ModelError for outputs that are plainly something else."""
    ranks = [len(output.shape) for output in clues.outputs]
    if max(ranks) <= 2 and len(ranks) == 1:
        raise ModelError(
            f"model {clues.file.path}: looks like a classifier or an embedding (one output, "
            f"{clues.file.seen().partition('; ')[2]}), not a detector: it gives no boxes."
        )
    if all(rank in (4, 5) for rank in ranks):
        what = "a segmentation model" if len(ranks) == 1 else "a detector exported without its decoding (feature maps)"
        raise ModelError(
            f"model {clues.file.path}: looks like {what}. Seen: {clues.file.seen()}. "
            "Export a detector with its box decoding included."
        )


def _class_origin(clues: Clues) -> Origin:
    return "override" if "classes" in clues.stated else "metadata"


def _settled(clues: Clues, otherwise: Origin) -> Origin:
    return "override" if "family" in clues.stated else otherwise


def _ask(clues: Clues, fact: str, seen: str, wanted: str) -> ModelError:
    beside = clues.file.path.with_suffix(".yaml").name
    return ModelError(f"model {clues.file.path}: {fact} cannot be known: {seen}. Say {wanted} in {beside} beside it.")


_FAMILIES: tuple[Callable[[Clues], Match | None], ...] = (_dense,)
