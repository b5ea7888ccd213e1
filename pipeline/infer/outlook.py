"""What a stream's queue tells the stream's own thread: which pictures would never be taken, and need no decoding."""

from __future__ import annotations

from pipeline.estimate import Estimate

SHEDDING_SECONDS = 1.0
"""A stream that had to give a frame up is taken to have too many for so long."""


_WORTH_WAITING = 0.15
"""Share of the time between two frames that a slot waits at most to take a fresh one instead of one that old."""


class Outlook:
    """When a stream's next frame will be taken, while it brings more than can be.

    Whoever takes frames reports, under the queue's lock; the stream's own thread asks. Neither waits for the other: a
    figure that is a moment old does no harm. Times are monotonic seconds.
    """

    __slots__ = ("_arrived_at", "_between", "_latest", "_taken_at", "_turns", "reason", "shedding_until")

    def __init__(self) -> None:
        self.reason = "stale"
        """What a frame is dropped for when a fresher one overtakes it; empty where it is carried instead."""
        self.shedding_until = float("-inf")
        """Until when only the freshest frame is taken."""
        self._turns = Estimate()
        self._latest = 0.0
        self._taken_at = float("-inf")
        self._between = Estimate()
        self._arrived_at: float | None = None

    def taken(self, now: float) -> None:
        """A frame of the stream was taken."""
        if self._taken_at != float("-inf"):
            self._latest = now - self._taken_at
            self._turns.learn(self._latest)
        self._taken_at = now

    def arrived(self, received_at: float) -> None:
        """A frame arrived that would go into the queue."""
        if self._arrived_at is not None:
            self._between.learn(received_at - self._arrived_at)
        self._arrived_at = received_at

    def left_out(self, now: float) -> None:
        """A frame was given up before it came into the queue."""
        self.shedding_until = now + SHEDDING_SECONDS

    def fresher_within(self, received_at: float, now: float) -> float:
        """Return how long to wait for a fresher frame than the one received then; 0 where it comes too late or never.

        Only while frames have to go anyway: then the older one is no loss.
        """
        between, arrived_at = self._between.mean, self._arrived_at
        if now >= self.shedding_until or between is None or arrived_at is None:
            return 0.0
        worth = _WORTH_WAITING * between
        if arrived_at > received_at:  # it is being decoded
            return worth
        until_arrival = arrived_at + between + self._between.deviation - now
        return until_arrival + worth if 0.0 < until_arrival < worth else 0.0

    def is_overtaken(self, now: float) -> bool:
        """Whether the frame that just arrived will be overtaken by the one after it, before one is taken.

        Only where that is as good as certain: neither turns nor arrivals are taken to be on time.
        """
        turn, between = self._turns.mean, self._between.mean
        if now >= self.shedding_until or turn is None or between is None or self._arrived_at is None:
            return False
        earliest_turn = self._taken_at + min(turn, self._latest) - 2 * self._turns.deviation
        return self._arrived_at + between + 2 * self._between.deviation < earliest_turn
