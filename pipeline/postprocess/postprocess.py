"""The postprocess step: a batch's outputs to detections in source pixels."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import numpy as np

from engines.model_spec import ModelSpec
from engines.runtime import Tensors
from pipeline.detections import Detections, ScoreLimits
from pipeline.errors import ConfigError
from pipeline.letterbox import Letterbox
from pipeline.postprocess.head import Candidates, Head
from pipeline.postprocess.suppress import suppress

MAX_CANDIDATES = 1000
"""Most candidates of a picture that are compared with each other: the best by score. Bounds a bad model's cost."""


class Postprocess:
    """Outputs of a batch to detections in source pixels. Passive; thread-safe where its head is."""

    def __init__(
        self,
        spec: ModelSpec,
        head: Head,
        *,
        score_threshold: float,
        iou_threshold: float,
        max_detections: int,
        classes: Sequence[str | int] | None = None,
        every_class: bool = False,
        max_candidates: int = MAX_CANDIDATES,
        least_score: float | None = None,
    ) -> None:
        """``classes``: names or ids to keep; None keeps all. Raises ConfigError for one the model does not have.

        ``every_class`` reports a box once for each class that reaches the threshold, as COCO's metric is measured,
        and not only with its best one. ``least_score``: below ``score_threshold`` where a tracker wants to see doubtful
        boxes, too; it is for the tracker to say which of them are published.
        """
        self._every_class = every_class
        self._max_candidates = max_candidates
        self._head = head
        least = score_threshold if least_score is None else min(least_score, score_threshold)
        self._limits = ScoreLimits(score_threshold, least)
        self._iou_threshold = iou_threshold
        self._max_detections = max_detections
        self._has_nms = spec.has_nms
        self._wanted = None if classes is None else wanted_class_ids(spec, classes)

    def __call__(
        self, outputs: Tensors, row: int, geometry: Letterbox, limits: ScoreLimits | None = None
    ) -> Detections:
        """Return picture ``row`` of the batch: best score first, in upright source pixels, clipped to the picture.

        Boxes that lie in the padding alone are left out. ``limits``: the scores that count for this picture, where they
        are not everybody's. Raises RunError for outputs that are not numbers.
        """
        limits = limits or self._limits
        found = self._wanted_of(self._read(outputs, row, limits.least))
        if len(found.scores) == 0:
            return Detections.empty()
        capped = int(np.count_nonzero(found.scores >= limits.publish)) > self._max_candidates
        found = _strongest(found, self._max_candidates)
        if self._has_nms:
            stay = np.argsort(-found.scores, kind="stable")
        else:
            stay = suppress(found.xyxy, found.scores, found.class_ids, self._iou_threshold)
        xyxy = geometry.to_source(found.xyxy[stay])
        visible = (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])
        if not visible.all():
            stay, xyxy = stay[visible], xyxy[visible]
        most = self._max_detections
        left_out = found.scores[stay[most : most + 1]]  # the best of them; doubtful boxes are nobody's loss
        return Detections(
            xyxy=xyxy[:most],
            scores=found.scores[stay[:most]],
            class_ids=found.class_ids[stay[:most]],
            truncated=capped or bool((left_out >= limits.publish).any()),
        )

    def _read(self, outputs: Tensors, row: int, least_score: float) -> Candidates:
        return self._head.read(outputs, row, least_score, every_class=self._every_class)

    def _wanted_of(self, found: Candidates) -> Candidates:
        if self._wanted is None:
            return found
        return _taken(found, np.flatnonzero(np.isin(found.class_ids, self._wanted)))


def _strongest(found: Candidates, most: int) -> Candidates:
    """Return the ``most`` best candidates, in the order they came."""
    if len(found.scores) <= most:
        return found
    order = np.argsort(-found.scores, kind="stable")[:most]
    return _taken(found, np.sort(order))


def _taken(found: Candidates, index: np.ndarray[tuple[int], np.dtype[np.intp]]) -> Candidates:
    return Candidates(found.xyxy[index], found.scores[index], found.class_ids[index])


def wanted_class_ids(spec: ModelSpec, classes: Sequence[str | int]) -> list[int]:
    """Return the class ids to keep. Where nobody knows how many classes there are, any id may be one."""
    names = spec.class_names
    wanted: list[int] = []
    for entry in classes:
        if isinstance(entry, int):
            if entry < 0 or (names and entry >= len(names)):
                raise ConfigError(
                    f"postprocess.classes: {entry}: model {spec.name} has class ids 0 to {len(names) - 1}."
                )
            wanted.append(entry)
            continue
        hits = [index for index, name in enumerate(names) if name == entry]
        if not hits:
            close = difflib.get_close_matches(entry, names, 1)
            hint = f"Did you mean {close[0]}?" if close else f"Allowed: {_some(names) or 'class ids'}."
            raise ConfigError(f"postprocess.classes: {entry}: model {spec.name} has no such class. {hint}")
        wanted.extend(hits)
    return wanted


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:20])
    return shown if len(names) <= 20 else f"{shown} and {len(names) - 20} more"
