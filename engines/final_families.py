"""Detectors that answer finished boxes: end-to-end rows, suppression inside the graph, DETR and its kin."""

from __future__ import annotations

from collections.abc import Sequence

from engines.clues import Clues, Match
from engines.model_spec import Origin, TensorSpec
from engines.overrides import COLUMNS

_BY_PICTURE = COLUMNS[1:]
_BY_BATCH = ("batch", "x1", "y1", "x2", "y2", "class", "score")
"""The order of YOLOv7's exporter, the one that is met."""


def end_to_end(clues: Clues) -> Match | None:
    """``[N, K, 6]``, ``[K, 6]`` or ``[K, 7]``: a row a box, of all pictures together in the last case."""
    if len(clues.outputs) != 1 or not clues.stated_family("end_to_end"):
        return None
    output = clues.outputs[0]
    rank, columns = len(output.shape), output.shape[-1] if output.shape else None
    stated = clues.stated.get("columns")
    usual = _BY_BATCH if columns == 7 else _BY_PICTURE
    order = tuple(stated) if isinstance(stated, list | tuple) else usual
    if rank not in (2, 3) or columns != len(order) or (rank, columns) == (3, 7) or (rank == 2 and output.shape[0] == 1):
        return None
    origins: dict[str, Origin] = {"columns": "override" if stated else "default"}
    if rank == 2 and "batch" not in order and clues.file.inputs[0].shape[:1] != (1,):
        raise clues.ask(
            "columns",
            f"{output.name} lists the boxes of all pictures of a batch, and no column says of which",
            "columns with 'batch' among them, or export with a batch of 1,",
        )
    return Match("end_to_end", None, clues.settled("shape"), True, {"columns": order}, origins)


def separate_outputs(clues: Clues) -> Match | None:
    """Boxes ``[N, K, 4]``, scores ``[N, K]`` and labels ``[N, K]``; with a count ``[N, 1]``, EfficientNMS."""
    if len(clues.outputs) not in (3, 4) or not clues.stated_family("detr", "efficient_nms"):
        return None
    rest = list(clues.outputs)
    boxes = _take(rest, "box", lambda output: len(output.shape) == 3 and output.shape[-1] == 4)
    count = None
    if len(rest) == 3:
        count = _take(rest, "num", lambda output: _is_integer(output) and _is_per_picture(output))
        if count is None:
            return None
    if boxes is None or len(rest) != 2 or any(len(output.shape) != 2 for output in rest):
        return None
    pair = _labels_and_scores(rest)
    if pair is None:
        raise clues.ask(
            "labels", f"neither of {rest[0].name} and {rest[1].name} is named or typed as labels", "a renamed export,"
        )
    labels, scores, origin = pair
    options: dict[str, object] = {"boxes": boxes.name, "scores": scores.name, "labels": labels.name}
    if count is not None:
        options["count"] = count.name
    return Match("efficient_nms" if count else "detr", None, clues.settled(origin), True, options)


def _labels_and_scores(pair: Sequence[TensorSpec]) -> tuple[TensorSpec, TensorSpec, Origin] | None:
    """Tell labels from scores: only labels are integers, else by name."""
    first, second = pair
    if _is_integer(first) != _is_integer(second):
        return (first, second, "shape") if _is_integer(first) else (second, first, "shape")
    for labels, scores in ((first, second), (second, first)):
        named = any(word in labels.name.lower() for word in ("label", "class", "cls"))
        if named and "score" in scores.name.lower():
            return labels, scores, "name"
    return None


def _take(rest: list[TensorSpec], word: str, fits: object) -> TensorSpec | None:
    """Remove and return the one output that fits; of several, the one with ``word`` in its name."""
    assert callable(fits)
    found = [output for output in rest if fits(output)]
    if len(found) > 1:
        found = [output for output in found if word in output.name.lower()]
    if len(found) != 1:
        return None
    rest.remove(found[0])
    return found[0]


def _is_integer(output: TensorSpec) -> bool:
    return output.dtype.startswith(("int", "uint"))


def _is_per_picture(output: TensorSpec) -> bool:
    return len(output.shape) == 1 or (len(output.shape) == 2 and output.shape[1] == 1)
