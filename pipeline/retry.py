"""When a stream is tried again: by cause, because a camera that refuses a password is not a camera that reboots."""

from __future__ import annotations

import random
from dataclasses import dataclass

from pipeline.errors import Cause


@dataclass(frozen=True, slots=True)
class Ladder:
    """Waits in seconds before the 1st, 2nd, 3rd ... try again; the last one repeats."""

    waits: tuple[float, ...]
    capped: bool = True
    """Whether ``source.reconnect_max_wait`` shortens it. Not where haste does harm."""


LADDERS: dict[Cause, Ladder] = {
    Cause.REFUSED: Ladder((0.25, 0.5, 1, 2, 4, 8, 10)),
    Cause.UNREACHABLE: Ladder((1, 2, 4, 8, 10)),
    # Cameras lock their accounts after 5 to 7 wrong logins: three in ten minutes, then one a quarter of an hour.
    Cause.UNAUTHORISED: Ladder((60, 300, 900), capped=False),
    Cause.NOT_FOUND: Ladder((2, 5, 10, 30)),
    Cause.BUSY: Ladder((30, 60), capped=False),
    Cause.UNSUPPORTED: Ladder((60, 300), capped=False),
    Cause.STALLED: Ladder((0.25, 0.5, 1, 2, 4, 8, 10)),
    Cause.ENDED: Ladder((0.25, 0.5, 1, 2, 4, 8, 10)),
    Cause.CORRUPT: Ladder((0.5, 1, 2, 4, 8, 10)),
    Cause.FAILED: Ladder((1, 2, 4, 8, 10)),
}


class Backoff:
    """Counts one stream's failures in a row. Not thread-safe."""

    def __init__(self, max_wait_seconds: float, seed: int | None = None) -> None:
        """``max_wait_seconds`` caps the causes that may be retried in haste."""
        self._max_wait_seconds = max_wait_seconds
        self._random = random.Random(seed)
        self._cause: Cause | None = None
        self._failures = 0
        self._unhurried: dict[Cause, int] = {}
        """Failures of the causes whose ladders are not capped: other failures in between do not start those anew."""

    def wait_seconds(self, cause: Cause) -> float:
        """Return how long to wait after this failure. Half of it is jitter, so that cameras do not come back in step.

        A new cause starts its own ladder. Where haste does harm it goes on where it was: a camera that drops the line
        between two wrong logins still counts them.
        """
        ladder = LADDERS[cause]
        if cause is not self._cause:
            self._cause = cause
            self._failures = self._unhurried.get(cause, 0)
        wait = ladder.waits[min(self._failures, len(ladder.waits) - 1)]
        self._failures += 1
        if ladder.capped:
            wait = min(wait, self._max_wait_seconds)
            return wait * self._random.uniform(0.5, 1.0)
        self._unhurried[cause] = self._failures
        return wait

    def reset(self) -> None:
        """The stream has been delivering for a while."""
        self._cause = None
        self._failures = 0
        self._unhurried.clear()
