"""Which boxes overlap which: one intersection-over-union array for all streams at once, read as a list of pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Index = NDArray[np.intp]

_PADDING_ALLOWED = 4
_SMALL = 65536  # pairs; below this padding costs less than a loop


@dataclass(frozen=True, slots=True)
class Streams:
    """Which column of a batch belongs to which stream: columns are in stream order."""

    of_column: Index | None
    """intp ``[T]``, ascending; None for a single stream."""
    counts: list[int]
    """Columns of each stream."""

    @classmethod
    def of(cls, counts: list[int]) -> Streams:
        """Columns in runs of ``counts``."""
        return cls(np.repeat(np.arange(len(counts)), counts) if len(counts) > 1 else None, counts)

    def take(self, columns: Index) -> Streams:
        """The same streams, with only some of the columns (ascending)."""
        if self.of_column is None:
            return Streams(None, [len(columns)])
        kept = self.of_column[columns]
        return Streams(kept, np.bincount(kept, minlength=len(self.counts)).tolist())

    def spread(self, per_stream: list[float]) -> Floats | float:
        """One value a stream to one value a column (or a plain number for a single stream)."""
        return per_stream[0] if self.of_column is None else np.array(per_stream)[self.of_column]


def first_columns(counts: list[int]) -> Index:
    """Where each stream's run of columns begins."""
    ends: Index = np.array(counts, dtype=np.intp).cumsum()
    return ends - np.array(counts, dtype=np.intp)


def to_corners(boxes: Floats) -> Floats:
    """``[4, T]`` centre x, y, width, height to ``[4, T]`` left, top, right, bottom."""
    half = 0.5 * boxes[2:]
    corners = np.empty_like(boxes)
    np.subtract(boxes[:2], half, out=corners[:2])
    np.add(boxes[:2], half, out=corners[2:])
    return corners


def overlapping_pairs(
    a: Floats, a_streams: Streams, b: Floats, b_streams: Streams, least_iou: float
) -> tuple[Index, Index, Floats]:
    """Return the pairs of one stream whose IoU is at least ``least_iou`` (above 0): columns of a, of b, and the IoU.

    ``a [4, A]`` and ``b [4, B]``: corners in pixels. Pairs come in ascending order of a, then of b.
    """
    if a.shape[1] == 0 or b.shape[1] == 0:
        none = np.zeros(0, dtype=np.intp)
        return none, none, np.zeros(0)
    if a_streams.of_column is None or b_streams.of_column is None:
        return _pairs(a[:, None, :], b[:, None, :], least_iou)
    widest_a, widest_b, streams = max(a_streams.counts), max(b_streams.counts), len(a_streams.counts)
    wanted = sum(x * y for x, y in zip(a_streams.counts, b_streams.counts, strict=True))
    if streams * widest_a * widest_b > max(_SMALL, _PADDING_ALLOWED * wanted):
        return _pairs_stream_by_stream(a, a_streams.counts, b, b_streams.counts, least_iou)
    a_slots, a_columns = _pad(a_streams.of_column, a_streams.counts, widest_a)
    b_slots, b_columns = _pad(b_streams.of_column, b_streams.counts, widest_b)
    padded_a = _padded(a, a_slots, streams, widest_a)
    padded_b = _padded(b, b_slots, streams, widest_b)
    slot_a, slot_b, iou = _pairs(padded_a, padded_b, least_iou)
    return a_columns[slot_a], b_columns[slot_b], iou


def _pad(of_column: Index, counts: list[int], widest: int) -> tuple[Index, Index]:
    """Where each column goes in ``[streams, widest]``, and back."""
    starts = np.arange(len(counts)) * widest - first_columns(counts)
    slots: Index = np.arange(len(of_column)) + starts[of_column]
    columns = np.zeros(len(counts) * widest, dtype=np.intp)
    columns[slots] = np.arange(len(slots))
    return slots, columns


def _padded(corners: Floats, slots: Index, streams: int, widest: int) -> Floats:
    padded = np.zeros((4, streams * widest))  # an empty box overlaps nothing
    padded[:, slots] = corners
    return padded.reshape(4, streams, widest)


def _pairs(a: Floats, b: Floats, least_iou: float) -> tuple[Index, Index, Floats]:
    """``a [4, S, A]``, ``b [4, S, B]`` to flat indices into ``S * A`` and ``S * B``, and the IoU."""
    a_size, b_size = a[2:] - a[:2], b[2:] - b[:2]
    a_area, b_area = a_size[0] * a_size[1], b_size[0] * b_size[1]
    extent = np.minimum(a[2:, :, :, None], b[2:, :, None, :])
    extent -= np.maximum(a[:2, :, :, None], b[:2, :, None, :])
    overlap = np.maximum(extent[0], 0.0, out=extent[0])
    overlap *= extent[1]
    share = least_iou / (1.0 + least_iou)  # IoU >= g means overlap >= g / (1 + g) of both areas together
    areas = (share * a_area)[:, :, None] + (share * b_area)[:, None, :]
    areas += np.finfo(np.float64).tiny
    found = (overlap >= areas).reshape(-1).nonzero()[0]
    first = found // b.shape[2]
    second = found - first * b.shape[2]
    if a.shape[1] > 1:
        second += first // a.shape[2] * b.shape[2]
    shared = overlap.reshape(-1)[found]
    return first, second, shared / (a_area.reshape(-1)[first] + b_area.reshape(-1)[second] - shared)


def _pairs_stream_by_stream(
    a: Floats, a_counts: list[int], b: Floats, b_counts: list[int], least_iou: float
) -> tuple[Index, Index, Floats]:
    firsts, seconds, ious = [], [], []
    a_start = b_start = 0
    for a_count, b_count in zip(a_counts, b_counts, strict=True):
        if a_count and b_count:
            mine, theirs = a[:, None, a_start : a_start + a_count], b[:, None, b_start : b_start + b_count]
            first, second, iou = _pairs(mine, theirs, least_iou)
            firsts.append(first + a_start)
            seconds.append(second + b_start)
            ious.append(iou)
        a_start, b_start = a_start + a_count, b_start + b_count
    if not ious:
        none = np.zeros(0, dtype=np.intp)
        return none, none, np.zeros(0)
    return np.concatenate(firsts), np.concatenate(seconds), np.concatenate(ious)
