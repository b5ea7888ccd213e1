"""The two clocks. Everything inside is measured on ``monotonic``; UTC is only ever data in a message."""

from __future__ import annotations

import time
from collections.abc import Callable

monotonic = time.monotonic
"""Seconds on a clock that never steps. The only clock that ages, waits and verdicts are made of."""

utc = time.time
"""Seconds since 1970. Goes into messages; no decision is made from it."""

Clock = Callable[[], float]
"""A clock that can be injected: seconds."""


class SteadyUtc:
    """UTC that does not step: read once, and carried on by the monotonic clock.

    What another machine says in UTC (when a camera took a picture) is compared with this, so that setting the system
    clock makes no picture older or younger.
    """

    def __init__(self, read_utc: Clock = utc, read_monotonic: Clock = monotonic) -> None:
        self._utc, self._monotonic = read_utc, read_monotonic
        self.set()

    def set(self) -> None:
        """Take over what the system clock says now."""
        self._offset = self._utc() - self._monotonic()

    def at(self, moment: float) -> float:
        """Return the UTC, in seconds since 1970, of a monotonic time."""
        return self._offset + moment
