"""How busy a stage is: the share of its workers' time that went into work, over a sliding window."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from pipeline.clock import monotonic
from pipeline.keepup.window import Ring


@dataclass(frozen=True, slots=True)
class StageLoad:
    """One stage at one moment."""

    stage: str
    utilisation: float
    """Share of the workers' time spent working, 0-1."""
    queue_frames: int
    """Frames waiting in front of the stage now."""
    queue_capacity: int
    """Frames that may wait there; 0 for a stage without a queue."""
    workers: int = 1

    @property
    def fill(self) -> float:
        """How full the queue in front of the stage is, 0-1; 0 without a queue."""
        return self.queue_frames / self.queue_capacity if self.queue_capacity else 0.0


class _Busy:
    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds = 0.0


class BusyClock:
    """The working time of one stage's workers, all of them together. Thread-safe.

    Waiting for a frame or for room downstream is not work: leave it outside ``working()``.
    """

    def __init__(
        self, window_seconds: float = 5.0, *, workers: int = 1, clock: Callable[[], float] = monotonic
    ) -> None:
        if workers < 1:
            raise ValueError(f"workers must be at least 1, got {workers}")
        self.workers = workers
        self._window = window_seconds
        self._clock = clock
        self._ring: Ring[_Busy] = Ring(window_seconds, _Busy)
        self._running: dict[int, float] = {}
        self._started: float | None = None
        self._last_end = float("-inf")
        self._lock = threading.Lock()

    def working(self) -> _Working:
        """Return a context manager: what runs inside is work. Work that has not ended yet counts, too."""
        return _Working(self, self._clock)

    def add(self, start: float, end: float) -> None:
        """One worker worked from ``start`` to ``end``, in monotonic seconds."""
        with self._lock:
            self._count(start, end)

    def utilisation(self, now: float) -> float:
        """Return the share of the window that the workers spent working, 0-1; 0 before any work."""
        with self._lock:
            slots = self._ring.recent(now)
            started = min([*self._running.values(), now if self._started is None else self._started])
            begin = max(started, self._ring.reach(now))
            if now <= begin:
                return 0.0
            busy = sum(slot.seconds for _, slot in slots)
            busy += sum(max(0.0, now - max(begin, start)) for start in self._running.values())
            return min(1.0, busy / ((now - begin) * self.workers))

    def _begin(self, token: int, start: float) -> None:
        with self._lock:
            self._running[token] = start

    def _end(self, token: int, end: float) -> None:
        with self._lock:
            self._count(self._running.pop(token), end)

    def _count(self, start: float, end: float) -> None:
        if self.workers == 1:  # of work that overlaps, the later one only waited for the only worker
            start = max(start, self._last_end)
            self._last_end = max(end, self._last_end)
        if self._started is None or start < self._started:
            self._started = start
        ring, part = self._ring, self._ring.part_seconds
        current = ring.current(start, end)
        if current is not None:  # short work, the usual case
            current.seconds += end - start
            return
        start = max(start, end - self._window)
        # Work is booked into the sub-windows it really took place in, or a long inference would seem to be a burst.
        number = int(start // part)
        while start < end:
            number += 1
            # By its middle: where a length is no sum of powers of two, an edge may come out on either side.
            until = min(end, number * part)
            if until > start:
                ring.slot((start + until) / 2).seconds += until - start
                start = until


class _Working:
    __slots__ = ("_busy", "_clock")

    def __init__(self, busy: BusyClock, clock: Callable[[], float]) -> None:
        self._busy = busy
        self._clock = clock

    def __enter__(self) -> None:
        self._busy._begin(id(self), self._clock())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._busy._end(id(self), self._clock())
