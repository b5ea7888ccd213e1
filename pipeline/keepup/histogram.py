"""Durations counted in logarithmic buckets: percentiles within 2 %, whatever their range, in bounded memory.

A bucket reaches from ``GROWTH ** i`` to ``GROWTH ** (i + 1)`` seconds and answers with the value whose relative
distance to both ends is the same. The number of values, their sum and the largest are exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from pipeline.keepup.window import Ring

RELATIVE_ERROR = 0.02
GROWTH = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
SMALLEST = 1e-6
"""Seconds; anything shorter counts as 0, within a microsecond."""

_PER_LOG = 1.0 / math.log(GROWTH)
_ZERO = -(1 << 30)
_log = math.log


class Histogram:
    """Durations since it was made. Not thread-safe."""

    __slots__ = ("_buckets", "count", "largest", "total")

    def __init__(self) -> None:
        self.count = 0
        """How many values, exactly."""
        self.total = 0.0
        """Their sum in seconds."""
        self.largest = 0.0
        """The largest in seconds, exactly; 0 while empty."""
        self._buckets: dict[int, int] = {}

    def record(self, seconds: float) -> None:
        """Count one duration in seconds. A negative one (clocks of two machines disagree) counts as 0."""
        if seconds > self.largest:
            self.largest = seconds
        if seconds >= SMALLEST:
            self.total += seconds
            bucket = math.floor(_log(seconds) * _PER_LOG)
        else:
            bucket = _ZERO
        buckets = self._buckets
        buckets[bucket] = buckets.get(bucket, 0) + 1
        self.count += 1

    def merge(self, other: Histogram) -> None:
        """Add all values of ``other``. Loses nothing: all histograms have the same buckets."""
        self.count += other.count
        self.total += other.total
        self.largest = max(self.largest, other.largest)
        buckets = self._buckets
        for bucket, count in other._buckets.items():
            buckets[bucket] = buckets.get(bucket, 0) + count

    def percentile(self, percent: float) -> float | None:
        """Return the smallest value, within 2 %, that ``percent`` (0-100) of all values do not exceed."""
        return self.percentiles((percent,))[0]

    def percentiles(self, percents: Sequence[float]) -> list[float | None]:
        """Return several percentiles in one pass; ``percents`` must ascend. All None while empty."""
        if self.count == 0:
            return [None] * len(percents)
        found: list[float | None] = []
        ordered = iter(sorted(self._buckets.items()))
        passed, value = 0, 0.0
        for percent in percents:
            # Whole counts decide: 0.95 * 20 is a hair above 19, and would answer with the twentieth of 20 values.
            rank = min(self.count, max(1, math.ceil(percent * self.count / 100 - 1e-9)))
            while passed < rank:
                bucket, count = next(ordered)
                passed += count
                value = 0.0 if bucket == _ZERO else min(self.largest, GROWTH**bucket * (1 + RELATIVE_ERROR))
            found.append(value)
        return found


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """Return one histogram of all values."""
    result = Histogram()
    for histogram in histograms:
        result.merge(histogram)
    return result


class WindowHistogram:
    """Durations of the last ``window_seconds``. Not thread-safe."""

    def __init__(self, window_seconds: float) -> None:
        self._ring: Ring[Histogram] = Ring(window_seconds, Histogram)

    def record(self, seconds: float, now: float) -> None:
        """Count one duration in seconds, seen at ``now`` (monotonic)."""
        self._ring.at(now).record(seconds)

    def histogram(self, now: float) -> Histogram:
        """Return what the window holds at ``now``, as a histogram of its own."""
        return merged(slot for _, slot in self._ring.recent(now))
