"""Detectors that answer boxes and class scores apart, or queries instead of grid cells.

- *queries*: DETR before its postprocessing. Boxes ``[N, K, 4]`` as centre and size in parts of the picture, and class
  scores or logits ``[N, K, C]`` (RT-DETR, D-FINE, RF-DETR as exported by PyTorch or Transformers); or both joined,
  ``[N, K, 4 + C]``, with K no grid (RT-DETR by Ultralytics).
- *split*: boxes ``[N, A, 4]`` as corners in input pixels and scores ``[N, A, C]`` for every grid cell (YOLO-NAS).
"""

from __future__ import annotations

from engines.clues import Clues, Match
from engines.model_spec import Origin, TensorSpec

_MOST_QUERIES = 1000


def boxes_and_scores(clues: Clues) -> Match | None:
    """Recognise two outputs of rank 3: boxes, and scores of every class. Raises ModelError where it asks."""
    if len(clues.outputs) != 2 or not clues.stated_family("queries", "split"):
        return None
    boxes, scores = _box_output(clues.outputs)
    if boxes is None or scores is None or scores.shape[2] is None:
        return None
    _check_classes(clues, scores, scores.shape[2])
    names: dict[str, object] = {"boxes": boxes.name, "scores": scores.name}
    grid = clues.grid_of(boxes.shape[1]) or clues.grid_of(scores.shape[1])
    # Coarse grids hold as few cells as there are queries by chance (300 at 192x320).
    is_grid = grid is not None and min(grid) <= 8
    if clues.stated.get("family", "split" if is_grid else "queries") == "split":
        return Match("split", scores.shape[2], clues.settled("shape"), options=names)
    return _queries(clues, scores, scores.shape[2], names)


def joined_queries(clues: Clues) -> Match | None:
    """Recognise one output ``[N, K, 4 + C]`` with fewer rows than any grid has cells."""
    if len(clues.outputs) != 1 or not clues.stated_family("queries"):
        return None
    output = clues.outputs[0]
    if len(output.shape) != 3:
        return None
    _, queries, columns = output.shape
    if queries is None or columns is None:
        return None
    transformer = "Softmax" in clues.trace.op_types or "family" in clues.stated
    if queries > _MOST_QUERIES or columns < 5 or not transformer:
        return None
    _check_classes(clues, output, columns - 4)
    return _queries(clues, output, columns - 4, {"joined": output.name})


def _queries(clues: Clues, scores: TensorSpec, classes: int, names: dict[str, object]) -> Match:
    makers = clues.trace.makers(scores.name)
    # Only scores that leave a sigmoid are scores already; a linear layer leaves logits.
    is_score = "Sigmoid" in makers or not makers
    origins: dict[str, Origin] = {"logits": "structure" if makers else "default"}
    options = {**names, "logits": not is_score}
    return Match("queries", classes, clues.settled("shape"), True, options, origins)


def _box_output(outputs: tuple[TensorSpec, ...]) -> tuple[TensorSpec | None, TensorSpec | None]:
    """Tell boxes, ``[N, K, 4]``, from scores of four classes by name."""
    first, second = outputs
    if len(first.shape) != 3 or len(second.shape) != 3:
        return None, None
    fits = [output for output in outputs if output.shape[2] == 4]
    if len(fits) == 2:
        fits = [output for output in fits if any(word in output.name.lower() for word in ("box", "det", "bbox"))]
    if len(fits) != 1:
        return None, None
    return (first, second) if fits[0] is first else (second, first)


def _check_classes(clues: Clues, output: TensorSpec, found: int) -> None:
    if clues.class_count not in (None, found):
        raise clues.ask("classes", f"{output.name} holds {found} classes, but {clues.class_count} are named", "classes")
