"""The anchor-free head of YOLOv8, 9, 11 and 12: decoded boxes and one score a class, no objectness.

Outputs ``[N, 4 + C, A]`` as exported, or ``[N, A, 4 + C]``: centre x, centre y, width, height in input pixels, then
class scores 0-1. The family was introduced by Ultralytics YOLOv8 (2023); anchor-free boxes go back to FCOS (Tian et
al., arXiv:1904.01355).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.model_spec import ModelSpec
from engines.runtime import Tensors
from pipeline.detections import FloatArray
from pipeline.postprocess.best_class import best_of_columns, best_of_rows, every_of_rows, refuse_not_a_number
from pipeline.postprocess.head import Candidates


class YoloV8Head:
    """Reads ``[N, 4 + C, A]`` or ``[N, A, 4 + C]``, float32 or float16."""

    def __init__(self, spec: ModelSpec) -> None:
        self._output = str(spec.head_options.get("output", spec.outputs[0].name))
        self._channels_first = spec.head_options.get("rows", "channels") == "channels"

    def read(self, outputs: Tensors, row: int, score_threshold: float, *, every_class: bool = False) -> Candidates:
        """Return the candidates of picture ``row`` with ``score >= score_threshold``; see ``Head``."""
        output: NDArray[Any] = outputs[self._output][row]
        by_rows = output.T if self._channels_first else output
        if every_class:
            index, class_ids, scores = every_of_rows(by_rows[:, 4:], score_threshold)
        elif self._channels_first:
            index, class_ids, scores = best_of_columns(output[4:], score_threshold)
        else:
            index, class_ids, scores = best_of_rows(output[:, 4:], score_threshold)
        if not len(index):
            return Candidates.none()
        return Candidates(centred_to_xyxy(by_rows[index, :4]), scores, class_ids)


def centred_to_xyxy(boxes: NDArray[Any]) -> FloatArray:
    """Return ``[K, 4]`` of centre x, centre y, width, height as float32 left, top, right, bottom.

    Raises RunError for boxes that are not numbers.
    """
    boxes = np.asarray(boxes, np.float32)
    refuse_not_a_number(boxes)
    half = boxes[:, 2:] * np.float32(0.5)
    xyxy = np.empty((len(boxes), 4), np.float32)
    np.subtract(boxes[:, :2], half, out=xyxy[:, :2])
    np.add(boxes[:, :2], half, out=xyxy[:, 2:])
    return xyxy
