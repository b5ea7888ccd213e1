"""Finished boxes in separate outputs: DETR and its kin, and the four outputs of EfficientNMS.

Boxes ``[N, K, 4]``: left, top, right, bottom in input pixels; scores ``[N, K]`` 0-1; labels ``[N, K]``; EfficientNMS
adds how many of the K count, ``[N, 1]``. DETR: Carion et al., arXiv:2005.12872.
"""

from __future__ import annotations

import numpy as np

from engines.model_spec import ModelSpec
from engines.runtime import Tensors
from pipeline.postprocess.best_class import refuse_not_a_number
from pipeline.postprocess.head import Candidates


class SeparateOutputsHead:
    """Reads boxes, scores and labels by the names in ``head_options``."""

    def __init__(self, spec: ModelSpec) -> None:
        names = spec.head_options
        self._boxes, self._scores, self._labels = (str(names[key]) for key in ("boxes", "scores", "labels"))
        self._count = names.get("count")

    def read(self, outputs: Tensors, row: int, score_threshold: float, *, every_class: bool = False) -> Candidates:
        """Return the boxes of picture ``row`` with ``score >= score_threshold``; see ``Head``.

        A finished box has one class, also with ``every_class``.
        """
        scores = np.asarray(outputs[self._scores][row], np.float32)
        count = len(scores) if self._count is None else int(outputs[str(self._count)][row].reshape(-1)[0])
        scores = scores[:count]
        refuse_not_a_number(scores)
        labels = outputs[self._labels][row][:count]
        keep = np.flatnonzero((scores >= score_threshold) & (labels >= 0))
        boxes = np.asarray(outputs[self._boxes][row][keep], np.float32)
        refuse_not_a_number(boxes)
        return Candidates(boxes, scores[keep], labels[keep].astype(np.int32))
