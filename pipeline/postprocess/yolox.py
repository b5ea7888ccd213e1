"""The raw grid head of YOLOX (Ge et al., arXiv:2107.08430).

Output ``[N, A, 5 + C]``, one row a grid cell, the finest stride first, row-major: offsets x, y from the cell and the
logarithms of width and height, all in units of the stride; objectness and class scores 0-1. A box's score is
objectness times the score of its best class.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.model_spec import ModelSpec
from engines.runtime import Tensors
from pipeline.detections import FloatArray
from pipeline.postprocess.best_class import Picked, every_of_rows, refuse_not_a_number
from pipeline.postprocess.head import Candidates
from pipeline.postprocess.yolov8 import centred_to_xyxy


class YoloXHead:
    """Reads ``[N, A, 5 + C]``, float32 or float16."""

    def __init__(self, spec: ModelSpec) -> None:
        strides = spec.head_options.get("strides", (8, 16, 32))
        assert isinstance(strides, Sequence)
        self._output = str(spec.head_options.get("output", spec.outputs[0].name))
        self._cells, self._strides = grid(spec.input_width, spec.input_height, strides)

    def read(self, outputs: Tensors, row: int, score_threshold: float, *, every_class: bool = False) -> Candidates:
        """Return the candidates of picture ``row`` with ``score >= score_threshold``; see ``Head``."""
        index, rows = rows_with_objects(outputs[self._output][row], score_threshold)
        if not len(index):
            return Candidates.none()
        place, class_ids, scores = scored_rows(rows, score_threshold, every_class)
        index, boxes = index[place], rows[place, :4]
        with np.errstate(over="ignore"):  # an infinite size is refused below, in words
            boxes[:, 2:] = np.exp(boxes[:, 2:])
        boxes[:, :2] += self._cells[index]
        boxes *= self._strides[index]
        return Candidates(centred_to_xyxy(boxes), scores, class_ids)


def rows_with_objects(output: NDArray[Any], threshold: float) -> tuple[NDArray[np.intp], FloatArray]:
    """Return the rows of ``[A, 5 + C]`` with objectness of at least ``threshold``: indices and float32 rows.

    No class score exceeds 1, so no other row can reach the threshold. Raises RunError where the objectness, or the
    likeliest row, is not a number.
    """
    objectness = np.array(output[:, 4], np.float32)  # a copy: every look at one column of many would cost as much
    refuse_not_a_number(output[objectness.argmax()])  # argmax finds a not-a-number first
    index = np.flatnonzero(objectness >= threshold)
    return index, np.asarray(output[index], np.float32)


def scored_rows(rows: FloatArray, threshold: float, every_class: bool) -> Picked:
    """Return which of ``[K, 5 + C]`` reach the threshold once objectness and class score are multiplied."""
    if every_class:
        return every_of_rows(rows[:, 5:] * rows[:, 4:5], threshold)
    class_ids = rows[:, 5:].argmax(axis=1)
    scores = rows[np.arange(len(rows)), 5 + class_ids] * rows[:, 4]
    refuse_not_a_number(scores)
    place = np.flatnonzero(scores >= threshold)
    return place, class_ids[place].astype(np.int32), scores[place]


def grid(width: int, height: int, strides: Sequence[int]) -> tuple[FloatArray, FloatArray]:
    """Return every cell's column and row, float32 ``[A, 2]``, and its stride, float32 ``[A, 1]``."""
    cells, steps = [], []
    for stride in strides:
        columns, rows = -(-width // stride), -(-height // stride)
        x, y = np.meshgrid(np.arange(columns), np.arange(rows))
        cells.append(np.stack([x.ravel(), y.ravel()], axis=1))
        steps.append(np.full((columns * rows, 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(steps).astype(np.float32)
