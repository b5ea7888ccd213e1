"""Which family a detector belongs to, from its outputs' shapes, its metadata and its wiring.

``recognise`` walks ``_FAMILIES`` in order and takes the first that fits. A family is one function there and one head in
``pipeline.postprocess``. Where shapes alone leave two answers, class names in the file and the graph's wiring decide;
where they do not either, the missing fact is asked for by name.
"""

from __future__ import annotations

from collections.abc import Callable

from engines.clues import Clues, Match
from engines.dense_families import dense
from engines.errors import ModelError
from engines.final_families import end_to_end, separate_outputs
from engines.query_families import boxes_and_scores, joined_queries

_FAMILIES: tuple[Callable[[Clues], Match | None], ...] = (
    dense,
    end_to_end,
    separate_outputs,
    boxes_and_scores,
    joined_queries,
)

_OTHER_TASKS = {"segment": "segmentation", "classify": "classification", "pose": "pose", "obb": "rotated-box"}


def recognise(clues: Clues) -> Match:
    """Return the model's family. Raises ModelError for what is no detector, and for what cannot be told apart."""
    _refuse_other_tasks(clues)
    for family in _FAMILIES:
        match = family(clues)
        if match is not None:
            return match
    _refuse_shapes(clues)
    stated = "".join(
        f" with {key}: {clues.stated[key]}" for key in ("family", "rows", "strides") if key in clues.stated
    )
    raise ModelError(
        f"model {clues.file.path}: its family cannot be worked out{stated}. Seen: {clues.file.seen()}. "
        f"Say what it is in {clues.file.path.with_suffix('.yaml').name} beside it: family, rows, classes."
    )


def _refuse_other_tasks(clues: Clues) -> None:
    task = clues.file.metadata.get("task", "detect").strip().strip("'\"").lower()
    if task not in ("detect", "detection", "object-detection"):
        raise ModelError(
            f"model {clues.file.path}: is a {_OTHER_TASKS.get(task, 'different')} model (metadata: task {task}), "
            "not a detector. Export the detection model of the same family."
        )


def _refuse_shapes(clues: Clues) -> None:
    """Raise ModelError for outputs that are plainly something else."""
    ranks = [len(output.shape) for output in clues.outputs]
    outputs = clues.file.seen().partition("; ")[2]
    if max(ranks) <= 2 and len(ranks) == 1:
        raise ModelError(
            f"model {clues.file.path}: looks like a classifier or an embedding (one output, "
            f"{outputs}), not a detector: it gives no boxes."
        )
    if all(rank in (4, 5) for rank in ranks):
        what = "a segmentation model" if len(ranks) == 1 else "a detector exported without its decoding (feature maps)"
        raise ModelError(
            f"model {clues.file.path}: looks like {what}. Seen: {outputs}. "
            "Export a detector with its box decoding included."
        )
