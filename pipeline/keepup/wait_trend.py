"""Whether frames have waited ever longer, by more than chance explains."""

from __future__ import annotations

import math
from collections import deque
from itertools import islice, pairwise

_REMEMBERED = 48
_FEWEST_STEPS = 8
_SHORTEST_SECONDS = 0.8
"""A burst after a network stall makes waits grow, too, but for less long: it is over, or overflows the queue."""
_DEVIATIONS = 3.0
_SMALLEST_DEVIATION_SECONDS = 1e-3


class WaitTrend:
    """The waits of one stream's latest frames. Not thread-safe.

    Where more comes than can be done, each frame waits longer than the one before, on average. Where just as much
    comes, waits go up and down like a random walk, and may rise as far; so the rise is held against what the steps
    between frames, which are as random in both cases, make of it (a random walk's standard deviation: that of one step,
    times the square root of their number).
    """

    def __init__(self) -> None:
        self._waits: deque[tuple[float, float]] = deque(maxlen=_REMEMBERED)

    def add(self, now: float, wait_seconds: float) -> None:
        """One frame was published at ``now`` (monotonic seconds), after waiting so long in queues."""
        self._waits.append((now, wait_seconds))

    def clear(self) -> None:
        """Forget all frames."""
        self._waits.clear()

    def has_risen(self) -> bool:
        """Whether waits rose from the shortest of late to the last one by what is no chance."""
        waits = self._waits
        if len(waits) <= _FEWEST_STEPS:
            return False
        lowest = min(range(len(waits)), key=lambda place: (waits[place][1], -place))
        steps = [later[1] - earlier[1] for earlier, later in pairwise(islice(waits, lowest, None))]
        count = len(steps)
        if count < _FEWEST_STEPS or waits[-1][0] - waits[lowest][0] < _SHORTEST_SECONDS:
            return False
        rise = sum(steps)
        variance = sum((step - rise / count) ** 2 for step in steps) / (count - 1)
        return rise > _DEVIATIONS * max(math.sqrt(variance), _SMALLEST_DEVIATION_SECONDS) * math.sqrt(count)
