"""The distribution head of NanoDet-Plus: for each side of a box, how likely each of eight distances is.

Output ``[N, A, C + 32]``, one row a grid cell, the finest stride first, row-major: class scores 0-1, then eight logits
each for left, top, right and bottom. A side's distance is the mean of its softmax, in strides from the cell's corner
(Generalized Focal Loss: Li et al., arXiv:2006.04388).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.model_spec import ModelSpec
from engines.runtime import Tensors
from pipeline.detections import FloatArray
from pipeline.postprocess.best_class import best_of_rows, every_of_rows, refuse_not_a_number
from pipeline.postprocess.head import Candidates
from pipeline.postprocess.yolox import grid

_DISTANCES = np.arange(8, dtype=np.float32)


class NanoDetHead:
    """Reads ``[N, A, C + 32]``, float32 or float16."""

    def __init__(self, spec: ModelSpec) -> None:
        strides = spec.head_options.get("strides", (8, 16, 32, 64))
        assert isinstance(strides, Sequence)
        self._output = str(spec.head_options.get("output", spec.outputs[0].name))
        cells, self._strides = grid(spec.input_width, spec.input_height, strides)
        self._corners = cells * self._strides

    def read(self, outputs: Tensors, row: int, score_threshold: float, *, every_class: bool = False) -> Candidates:
        """Return the candidates of picture ``row`` with ``score >= score_threshold``; see ``Head``."""
        output: NDArray[Any] = outputs[self._output][row]
        pick = every_of_rows if every_class else best_of_rows
        index, class_ids, scores = pick(output[:, :-32], score_threshold)
        sides = self._distances(np.asarray(output[index, -32:], np.float32)) * self._strides[index]
        xyxy = np.concatenate([self._corners[index] - sides[:, :2], self._corners[index] + sides[:, 2:]], axis=1)
        return Candidates(xyxy, scores, class_ids)

    @staticmethod
    def _distances(logits: FloatArray) -> FloatArray:
        """Return left, top, right, bottom in strides, float32 ``[K, 4]``."""
        refuse_not_a_number(logits)
        sides = logits.reshape(-1, 4, len(_DISTANCES))
        likely = np.exp(sides - sides.max(axis=2, keepdims=True))
        distances: FloatArray = (likely @ _DISTANCES) / likely.sum(axis=2)
        return distances
