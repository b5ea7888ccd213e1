"""Finished boxes, a row each: YOLOv10, YOLO26, and graphs that suppress overlaps themselves.

``[N, K, 6]``: left, top, right, bottom in input pixels, score, class; unused rows have score 0. ``[K, 7]`` holds the
boxes of all pictures, and a column that says of which. ``head_options["columns"]`` names the columns in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.model_spec import ModelSpec
from engines.runtime import Tensors
from pipeline.postprocess.best_class import refuse_not_a_number
from pipeline.postprocess.head import Candidates

COLUMNS = ("x1", "y1", "x2", "y2", "score", "class")


class EndToEndHead:
    """Reads ``[N, K, 6]``, ``[K, 6]`` or ``[K, 7]``, float32 or float16."""

    def __init__(self, spec: ModelSpec) -> None:
        columns = spec.head_options.get("columns", COLUMNS)
        assert isinstance(columns, Sequence)
        place = {name: index for index, name in enumerate(columns)}
        self._output = spec.outputs[0].name
        self._box = [place[name] for name in COLUMNS[:4]]
        self._score, self._class, self._batch = place["score"], place["class"], place.get("batch")

    def read(self, outputs: Tensors, row: int, score_threshold: float, *, every_class: bool = False) -> Candidates:
        """Return the boxes of picture ``row`` with ``score >= score_threshold``; see ``Head``.

        A finished box has one class, also with ``every_class``.
        """
        output = outputs[self._output]
        rows: NDArray[Any] = output[row] if output.ndim == 3 else output
        refuse_not_a_number(rows)
        keep = (rows[:, self._score] >= score_threshold) & (rows[:, self._class] >= 0)
        if self._batch is not None:
            keep &= rows[:, self._batch] == row
        found = np.asarray(rows[keep], np.float32)
        return Candidates(found[:, self._box], found[:, self._score], found[:, self._class].astype(np.int32))
