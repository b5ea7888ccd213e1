"""One stream before inference: which of its waiting frames is next, and which are given up for it."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.bounded_queue import BoundedQueue
from pipeline.frame import Frame
from pipeline.infer.terms import Terms, TimeToPublish

GivenUp = tuple[Frame, str]
"""A frame and the reason: "stale" (overtaken by a fresher one, or too old) or "deadline" (could not make it)."""

_PATIENCE_SECONDS = 0.25
_SHEDDING_SECONDS = 1.0
_CREDIT_FRAMES = 2.0
_OWED_SECONDS = 1.0


class Waiting:
    """One stream's queue, its turn among the others, and whether its frames only pass through or stand in it.

    A burst or a hiccup fills the queue for a moment and loses nothing: frames are taken in order. A queue that has not
    been empty for a while is standing: the stream brings more than can be run, and whoever waits in order is late for
    ever. Then only the freshest frame is taken, until no frame had to go for a while. (The idea of controlled delay,
    CoDel, RFC 8289: judge a queue by its minimum over time, not by its length.)

    ``turn`` counts the frames that the stream was given, over its weight (start-time fair queueing): whoever has the
    lowest is next. A stream that brought nothing may catch up on two frames, not on all it never sent.
    """

    __slots__ = ("_shed_until", "_standing_since", "_to_publish", "due_at", "items", "queue", "terms", "turn")

    def __init__(self, queue: BoundedQueue[Frame], terms: Terms, to_publish: TimeToPublish) -> None:
        self.queue = queue
        self.items = queue.items
        self.terms = terms
        self.turn = 0.0
        self.due_at = 0.0 if terms.min_fps else float("inf")
        """From when on (monotonic seconds) the stream has less than its ``min_fps``."""
        self._to_publish = to_publish
        self._standing_since: float | None = None
        self._shed_until = 0.0

    def change_terms(self, terms: Terms, now: float) -> None:
        """Have other terms from ``now`` on."""
        if not terms.min_fps:
            self.due_at = float("inf")
        elif self.due_at == float("inf"):
            self.due_at = now
        self.terms = terms

    @staticmethod
    def next_of(streams: Sequence[Waiting], now: float) -> Waiting | None:
        """Return the stream that is to have the next frame; None when nothing waits."""
        chosen: Waiting | None = None
        owed: Waiting | None = None
        for stream in streams:
            if not stream.items:
                continue
            if stream.due_at <= now and (owed is None or stream.due_at < owed.due_at):
                owed = stream
            if chosen is None or stream.turn < chosen.turn:
                chosen = stream
        return owed or chosen

    def pop(self, now: float, max_age_seconds: float) -> tuple[Frame | None, list[GivenUp]]:
        """Return the frame whose turn it is, and those that are given up for it. The queue's lock is held."""
        queue = self.queue
        frame = queue.pop()
        given_up: list[GivenUp] = []
        if frame is None:
            return None, given_up
        if queue.policy != "block":
            if self._sheds(now):
                while len(queue) and frame is not None:
                    given_up.append((frame, "stale"))
                    self._shed_until = now + _SHEDDING_SECONDS
                    frame = queue.pop()
            while frame is not None and now - frame.received_at > max_age_seconds:
                given_up.append((frame, "stale"))
                frame = queue.pop()
        if self.terms.deadline_seconds is not None:
            oldest = self.terms.deadline_seconds - self._to_publish.expected(now)
            while frame is not None and now - frame.captured_at > oldest:
                given_up.append((frame, "deadline"))
                frame = queue.pop()
        return frame, given_up

    def served(self, now: float, clock: float) -> float:
        """The stream was given a frame at ``now``, while turns stood at ``clock``. Return where they stand now."""
        began = max(self.turn, clock - _CREDIT_FRAMES / self.terms.weight)
        self.turn = began + 1.0 / self.terms.weight
        if self.terms.min_fps:
            owed = self.due_at <= now
            self.due_at = max(self.due_at, now - _OWED_SECONDS) + 1.0 / self.terms.min_fps
            if owed:  # out of turn: the turns of the others stand where they stood
                return clock
        return max(clock, began)

    def _sheds(self, now: float) -> bool:
        if not len(self.queue):
            self._standing_since = None
        elif self._standing_since is None:
            self._standing_since = now
        standing = self._standing_since is not None and now - self._standing_since > _PATIENCE_SECONDS
        return standing or now < self._shed_until
