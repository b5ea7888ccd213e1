"""The one pass over all scores: which candidates reach the threshold, and with which class.

Most of a head's time is this pass, so it looks at every score once, in memory order, and does everything else on the
few that remain. float16 is compared by its bits: NumPy has no fast float16 arithmetic, but non-negative floats order
like the integers of their bits, and what is negative, infinite or not a number then comes out larger than any number
and is looked at exactly afterwards.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import RunError
from pipeline.detections import FloatArray, IntArray

NUMBERS_REMEDY = (
    "In fp16 a layer may overflow: take precision fp32. Otherwise the model's input is out of range (see "
    "pixels.scale), or its file is damaged."
)
NOT_A_NUMBER = f"the model's outputs hold not-a-number or infinite values. {NUMBERS_REMEDY}"

Picked = tuple[NDArray[np.intp], IntArray, FloatArray]
"""Indices of the candidates ``[K]``, ascending; their class ids, int32 ``[K]``; their scores, float32 ``[K]``."""

_NOTHING: Picked = (np.zeros(0, np.intp), np.zeros(0, np.int32), np.zeros(0, np.float32))


def best_of_columns(scores: NDArray[Any], threshold: float) -> Picked:
    """Return the columns of ``[C, A]`` whose best score is at least ``threshold``.

    Raises RunError where a best score is not a number or infinite.
    """
    if scores.dtype == np.float16:
        index = np.flatnonzero(scores.view(np.uint16).max(axis=0) >= _bits_below(threshold))
    else:
        # Not "at least" but "not below": a not-a-number must stay, to be refused.
        best = scores[0] if len(scores) == 1 else scores.max(axis=0)
        if best.max(initial=0.0) < threshold:  # most pictures of a quiet camera
            return _NOTHING
        index = np.flatnonzero(~(best < threshold))
    return _best(index, scores[:, index].T, threshold)


def best_of_rows(scores: NDArray[Any], threshold: float) -> Picked:
    """Return the rows of ``[A, C]`` whose best score is at least ``threshold``.

    Raises RunError where a best score is not a number or infinite.
    """
    if scores.dtype == np.float16:
        index = np.flatnonzero(scores.view(np.uint16).max(axis=1) >= _bits_below(threshold))
    else:
        # Comparing and looking for hits is three times faster than a maximum along short rows.
        hits = np.flatnonzero(~(scores < threshold)) // scores.shape[1]
        index = hits[np.flatnonzero(np.diff(hits, prepend=-1))]
    return _best(index, scores[index], threshold)


def every_of_rows(scores: NDArray[Any], threshold: float) -> Picked:
    """Return every score of ``[A, C]`` that is at least ``threshold``: a row comes once for each such class.

    Raises RunError where a score that reaches it is infinite, or any is not a number.
    """
    scores = np.asarray(scores, np.float32)
    index, class_ids = np.nonzero(~(scores < threshold))
    picked = scores[index, class_ids]
    refuse_not_a_number(picked)
    return index, class_ids.astype(np.int32), picked


def refuse_not_a_number(values: NDArray[Any]) -> None:
    """Raise RunError unless every value is finite: no such output may pass for "nothing was found"."""
    if not np.isfinite(values).all():
        raise RunError(NOT_A_NUMBER)


def _best(index: NDArray[np.intp], picked: NDArray[Any], threshold: float) -> Picked:
    """Take the best class of each row of ``picked`` ``[K, C]``."""
    if len(index) == 0:
        return _NOTHING
    picked = np.asarray(picked, np.float32)
    class_ids = picked.argmax(axis=1)
    scores = picked[np.arange(len(index)), class_ids]
    refuse_not_a_number(scores)
    keep = scores >= threshold
    if not keep.all():
        index, class_ids, scores = index[keep], class_ids[keep], scores[keep]
    return index, class_ids.astype(np.int32), scores


def _bits_below(threshold: float) -> int:
    """Return the bits of a float16 at or just below ``threshold`` (0 or more)."""
    return max(0, int(np.float16(threshold).view(np.uint16)) - 1)
