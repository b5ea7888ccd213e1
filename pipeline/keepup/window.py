"""A sliding window as a ring of sub-windows: old ones fall off whole, so nothing is kept per frame."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from pipeline.keepup.settings import SUB_WINDOWS

Slot = TypeVar("Slot")


class Ring(Generic[Slot]):
    """The sub-windows of the last ``window_seconds``; ``make`` makes an empty one, ``retire`` gets those that fall off.

    Times are monotonic seconds. A time before the newest sub-window counts as of the newest one: reports of several
    threads may overtake each other by microseconds. Not thread-safe.
    """

    def __init__(
        self,
        window_seconds: float,
        make: Callable[[], Slot],
        parts: int = SUB_WINDOWS,
        retire: Callable[[Slot], None] | None = None,
    ) -> None:
        if window_seconds <= 0 or parts < 1:
            raise ValueError(f"a window needs a length and parts, got {window_seconds} s in {parts}")
        self.part_seconds = window_seconds / parts
        self._parts = parts
        self._make = make
        self._retire = retire
        self._newest = -1
        self._begins_at = self._ends_at = float("-inf")
        self._current: Slot = make()
        self._slots: deque[tuple[int, Slot]] = deque()

    def at(self, now: float) -> Slot:
        """Return the sub-window of ``now``, for adding to it."""
        if now < self._ends_at:
            return self._current
        number = int(now // self.part_seconds)
        if not self._slots or number > self._newest:
            self._newest = number
            self._begins_at, self._ends_at = number * self.part_seconds, (number + 1) * self.part_seconds
            self._current = self._make()
            self._slots.append((number, self._current))
            self._expire(number)
        return self._current

    def current(self, start: float, end: float) -> Slot | None:
        """Return the newest sub-window if all from ``start`` to ``end`` lies in it, else None. The fast way to it."""
        return self._current if self._begins_at <= start <= end < self._ends_at else None

    def slot(self, at: float) -> Slot:
        """Return the sub-window of ``at``, even an older one; what is put into one that left the window is lost."""
        if not self._slots or at >= self._slots[-1][0] * self.part_seconds:
            return self.at(at)
        number = int(at // self.part_seconds)
        for place in range(len(self._slots) - 1, -1, -1):
            there = self._slots[place][0]
            if there == number:
                return self._slots[place][1]
            if there < number:
                added = self._make()
                self._slots.insert(place + 1, (number, added))
                return added
        added = self._make()
        if number > self._newest - self._parts:
            self._slots.appendleft((number, added))
        return added

    def recent(self, now: float) -> list[tuple[float, Slot]]:
        """Return ``(start, sub-window)`` of those within the window before ``now``, oldest first; empty ones may lack.

        Together they reach back between ``window - window / parts`` and ``window`` seconds.
        """
        self._expire(max(self._newest, int(now // self.part_seconds)))
        return [(number * self.part_seconds, slot) for number, slot in self._slots]

    def reach(self, now: float) -> float:
        """Return the time at which the window begins, if it were full."""
        return (max(self._newest, int(now // self.part_seconds)) - self._parts + 1) * self.part_seconds

    def clear(self) -> None:
        """Retire everything."""
        while self._slots:
            self._fall_off()
        self._begins_at = self._ends_at = float("-inf")
        self._newest = -1

    def _expire(self, number: int) -> None:
        while self._slots and self._slots[0][0] <= number - self._parts:
            self._fall_off()

    def _fall_off(self) -> None:
        slot = self._slots.popleft()[1]
        if self._retire is not None:
            self._retire(slot)
