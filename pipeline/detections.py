"""What was found in one frame: parallel arrays, one row an object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Detections:
    """Objects of one frame, best score first."""

    xyxy: FloatArray
    """float32 ``[N, 4]``: left, top, right, bottom in pixels of the upright source picture, clipped to it."""
    scores: FloatArray
    """float32 ``[N]``, 0-1."""
    class_ids: IntArray
    """int32 ``[N]``, index into the model's class names."""
    truncated: bool = False
    """More objects than ``postprocess.max_detections`` were found; the lowest scores were left out."""

    def __len__(self) -> int:
        return len(self.scores)

    def best(self, count: int) -> Detections:
        """Return the ``count`` best-scoring ones, as views."""
        return Detections(self.xyxy[:count], self.scores[:count], self.class_ids[:count], self.truncated)

    @staticmethod
    def empty() -> Detections:
        """No objects: an explicit result, not a missing one."""
        return _EMPTY


_EMPTY = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))


class ScoreLimits(NamedTuple):
    """Which scores of a stream count, 0-1."""

    publish: float
    """Detections that score less are left out, unless a confirmed track vouches for them."""
    least: float
    """What scores less is of no use: some tracker looks below ``publish``, or nobody does."""
