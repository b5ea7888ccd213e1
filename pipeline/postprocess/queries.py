"""DETR's queries before its own postprocessing, and dense boxes whose scores are an output of their own.

*queries* (Carion et al., arXiv:2005.12872; RT-DETR: Zhao et al., arXiv:2304.08069): boxes ``[N, K, 4]`` as centre x,
centre y, width, height in parts of the picture, class scores or logits ``[N, K, C]``; or joined ``[N, K, 4 + C]``. One
box a query, no suppression. *split*: boxes ``[N, A, 4]`` as corners in input pixels, scores ``[N, A, C]``.
"""

from __future__ import annotations

from math import inf, log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.model_spec import ModelSpec
from engines.runtime import Tensors
from pipeline.detections import FloatArray
from pipeline.postprocess.best_class import best_of_rows, every_of_rows, refuse_not_a_number
from pipeline.postprocess.head import Candidates
from pipeline.postprocess.yolov8 import centred_to_xyxy


class SplitHead:
    """Reads boxes and scores by the names in ``head_options``."""

    def __init__(self, spec: ModelSpec) -> None:
        self._boxes, self._scores = str(spec.head_options["boxes"]), str(spec.head_options["scores"])

    def read(self, outputs: Tensors, row: int, score_threshold: float, *, every_class: bool = False) -> Candidates:
        """Return the candidates of picture ``row`` with ``score >= score_threshold``; see ``Head``."""
        pick = every_of_rows if every_class else best_of_rows
        index, class_ids, scores = pick(outputs[self._scores][row], score_threshold)
        boxes = np.asarray(outputs[self._boxes][row][index], np.float32)
        refuse_not_a_number(boxes)
        return Candidates(boxes, scores, class_ids)


class QueriesHead:
    """Reads queries, joined or apart, scores or logits, as ``head_options`` says."""

    def __init__(self, spec: ModelSpec) -> None:
        options = spec.head_options
        self._joined = options.get("joined")
        self._boxes, self._scores = str(options.get("boxes")), str(options.get("scores"))
        self._logits = bool(options.get("logits"))
        width, height = spec.input_width, spec.input_height
        self._scale = np.array([width, height, width, height], np.float32)

    def read(self, outputs: Tensors, row: int, score_threshold: float, *, every_class: bool = False) -> Candidates:
        """Return the boxes of picture ``row`` with ``score >= score_threshold``; see ``Head``."""
        boxes, scores = self._parts(outputs, row)
        pick = every_of_rows if every_class else best_of_rows
        threshold = logit(score_threshold) if self._logits else score_threshold
        index, class_ids, found = pick(scores, threshold)
        if self._logits:
            found = _sigmoid(found)
        return Candidates(centred_to_xyxy(boxes[index].astype(np.float32) * self._scale), found, class_ids)

    def _parts(self, outputs: Tensors, row: int) -> tuple[NDArray[Any], NDArray[Any]]:
        if self._joined is None:
            # Logits are negative for the most part, which the float16 shortcut of best_of_rows is not made for.
            return outputs[self._boxes][row], np.asarray(outputs[self._scores][row], np.float32)
        joined = np.asarray(outputs[str(self._joined)][row], np.float32)
        return joined[:, :4], joined[:, 4:]


def logit(score: float) -> float:
    """Return the logit of a score; infinite at 0 and 1."""
    if score <= 0:
        return -inf
    return inf if score >= 1 else log(score / (1 - score))


def _sigmoid(logits: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):  # exp of a large negative logit's negative: the score is 0, as it should be
        return np.float32(1) / (np.float32(1) + np.exp(-logits))
