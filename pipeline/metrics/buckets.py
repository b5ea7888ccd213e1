"""Durations counted in the fixed buckets that Prometheus is shown.

Raw counts on the hot path, exposed only when somebody asks: a prometheus-client histogram would take several
microseconds and a lock for each of the ten durations of a frame.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

AGE_BOUNDS = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
"""Upper bounds in seconds for ages and waits: fine around the deadlines people set (100 ms to 2 s)."""

STAGE_BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds in seconds for one stage's work: from tracking (0.1 ms) to a large model on a small CPU (seconds)."""


class Buckets:
    """Durations since it was made. One thread records; any other may read meanwhile."""

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        """Sum of all values in seconds."""

    def record(self, seconds: float) -> None:
        """Count one duration in seconds. A negative one (clocks of two machines disagree) counts as 0."""
        if seconds > 0.0:
            self._counts[bisect_left(self._bounds, seconds)] += 1
            self.total += seconds
        else:
            self._counts[0] += 1

    def counts(self) -> list[int]:
        """Return how many fell into each bucket; the last has no upper bound."""
        return list(self._counts)

    def add(self, counts: Sequence[int], total: float) -> None:
        """Count in what another process recorded in the same buckets, ``total`` seconds in all."""
        self._counts = [own + other for own, other in zip(self._counts, counts, strict=True)]
        self.total += total

    def cumulative(self) -> list[tuple[str, float]]:
        """Return ``(upper bound, values up to it)`` as Prometheus has it; the last bound is "+Inf", the count."""
        counts = list(self._counts)
        return list(zip([*map(str, self._bounds), "+Inf"], map(float, accumulate(counts)), strict=True))
