"""What the live view may spend: some of what is idle, and next to nothing where the pipeline needs every core.

No lower thread priority: a thread that is set aside while it holds Python's lock would hold up the pipeline's threads
with it. What counts is the time spent, so that is what is bounded.
"""

from __future__ import annotations

import time

from pipeline.clock import monotonic
from pipeline.keepup.headroom import read_cpu_use

_IDLE_BELOW, _BUSY_ABOVE = 0.6, 0.85
"""Share of the cores in use: below the first there is room, above the second there is none."""
_MOST, _LEAST = 0.1, 0.008
"""Share of the cores that the live view may use, with room and without."""
_LOOK_SECONDS = 0.5
_LONGEST_REST_SECONDS = 2.0


class Allowance:
    """Tells how long to rest after work, so that the time spent stays within a share of the cores.

    Not thread-safe: for the thread that makes the pictures, whose own time counts.
    """

    def __init__(self, cores: int) -> None:
        self._cores = cores
        self._also: list[int] = []
        self._spent_before = self._spent()
        self._looked_at = monotonic()
        self._used_before = read_cpu_use()
        self.share = _LEAST
        """Of the cores, 0-1: careful until the first look."""

    @property
    def tight(self) -> bool:
        """Whether the pipeline needs the machine for itself."""
        return self.share < _MOST / 4

    def also_count(self, thread_ident: int) -> None:
        """Let another running thread's time count as the live view's: it serves what is made here."""
        self._also = [time.pthread_getcpuclockid(thread_ident)]
        self._spent_before = self._spent()

    def rest_seconds(self) -> float:
        """Return how long to rest after what was spent since the last call."""
        self._look()
        spent = self._spent()
        seconds = (spent - self._spent_before) / (self.share * self._cores)
        self._spent_before = spent
        return min(max(0.0, seconds), _LONGEST_REST_SECONDS)

    def _look(self) -> None:
        now = monotonic()
        elapsed = now - self._looked_at
        if elapsed < _LOOK_SECONDS:
            return
        used, before = read_cpu_use(), self._used_before
        self._looked_at, self._used_before = now, used
        busy = (used.own - before.own) / (elapsed * self._cores)
        if used.idle is not None and before.idle is not None:
            # Where others keep the machine busy, this process uses little of it, and yet there is no room.
            busy = max(busy, 1.0 - (used.idle - before.idle) / (elapsed * self._cores))
        room = min(1.0, max(0.0, (_BUSY_ABOVE - busy) / (_BUSY_ABOVE - _IDLE_BELOW)))
        self.share = _LEAST + room * (_MOST - _LEAST)

    def _spent(self) -> float:
        """Seconds of processor time that the live view's threads took so far."""
        spent = time.thread_time()
        for clock in self._also:
            try:
                spent += time.clock_gettime(clock)
            except OSError:  # the thread has ended
                self._also = []
        return spent
