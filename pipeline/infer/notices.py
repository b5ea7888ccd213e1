"""What the slots of a runtime say: each message once, whichever slot it comes from and however often."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pipeline.clock import monotonic
from pipeline.infer.not_numbers import NotNumbers

AGAIN_SECONDS = 60.0
"""A message that comes again and again is said again after that long."""

_MOST_KEPT = 200


class Notices:
    """Remembers what was said lately. Thread-safe: the slots of a runtime share one."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.not_numbers = NotNumbers()
        self._clock = clock
        self._lock = threading.Lock()
        self._said_at: dict[str, float] = {}
        self._given_up = False

    def is_new(self, message: str) -> bool:
        """Return whether ``message`` was not said in the last minute; if so, it counts as said now."""
        with self._lock:
            now = self._clock()
            if now - self._said_at.get(message, float("-inf")) < AGAIN_SECONDS:
                return False
            if len(self._said_at) >= _MOST_KEPT:
                self._said_at.clear()
            self._said_at[message] = now
            return True

    def first_to_give_up(self) -> bool:
        """Return whether no slot has given up before: one that ends the pipeline is enough."""
        with self._lock:
            first, self._given_up = not self._given_up, True
            return first
