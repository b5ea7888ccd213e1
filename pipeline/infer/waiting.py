"""One stream before inference: which of its waiting frames is next, and which are given up for it."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.bounded_queue import BoundedQueue
from pipeline.frame import Frame
from pipeline.infer.outlook import SHEDDING_SECONDS, Outlook
from pipeline.infer.stride import Stride
from pipeline.infer.terms import Terms, TimeToPublish

GivenUp = tuple[Frame, str]
"""A frame and the reason: "stale" (overtaken by a fresher one, or too old), "deadline" (could not make it) or "stride"
(left out by the stream's stride, and no track can be carried to it)."""


@dataclass(slots=True)
class Popped:
    """What left a stream's queue in one turn."""

    frame: Frame | None = None
    """To be inferred; None where nothing is due."""
    passing: list[Frame] = field(default_factory=list)
    """Frames before it that pass the model by, in their order: its stride leaves them out."""
    given_up: list[GivenUp] = field(default_factory=list)


_PATIENCE_SECONDS = 0.25


class Waiting:
    """One stream's queue, its turn among the others, and whether its frames only pass through or stand in it.

    A burst or a hiccup fills the queue for a moment and loses nothing: frames are taken in order. A queue that has not
    been empty for a while is standing: the stream brings more than can be run, and whoever waits in order is late for
    ever. Then only the freshest frame is taken, until no frame had to go for a while. (The idea of controlled delay,
    CoDel, RFC 8289: judge a queue by its minimum over time, not by its length.)
    """

    __slots__ = (
        "_outlook",
        "_standing_since",
        "_stride",
        "_to_publish",
        "due_at",
        "items",
        "queue",
        "served_at",
        "terms",
        "turn",
    )

    def __init__(
        self, queue: BoundedQueue[Frame], terms: Terms, to_publish: TimeToPublish, outlook: Outlook | None = None
    ) -> None:
        self.queue = queue
        self.items = queue.items
        self.terms = terms
        self.turn = 0.0
        """As ``Turns`` counts them."""
        self.served_at = float("-inf")
        """When the stream had its last turn, in monotonic seconds."""
        self.due_at = 0.0 if terms.min_fps else float("inf")
        """From when on (monotonic seconds) the stream has less than its ``min_fps``."""
        self._stride = Stride()
        self._to_publish = to_publish
        self._standing_since: float | None = None
        self._outlook = outlook or Outlook()
        self._outlook.reason = _overtaken(terms)

    def change_terms(self, terms: Terms, now: float) -> None:
        """Have other terms from ``now`` on."""
        if not terms.min_fps:
            self.due_at = float("inf")
        elif self.due_at == float("inf"):
            self.due_at = now
        self.terms = terms
        self._outlook.reason = _overtaken(terms)

    def pop(self, now: float, max_age_seconds: float, *, awaited: bool = False) -> Popped:
        """Return the frame whose turn it is, and those that go before it. The queue's lock is held.

        ``awaited``: whoever takes was waiting when they came, so that none is late for the others.
        """
        queue, terms, stride = self.queue, self.terms, self._stride
        popped = Popped()
        frame = queue.pop()
        live = queue.policy != "block"
        sheds = live and frame is not None and self._sheds(now) and not awaited
        while frame is not None:
            reason = self._too_late(frame, now, max_age_seconds if live else None)
            if reason:
                popped.given_up.append((frame, reason))
            elif not stride.is_due(terms, frame.epoch):
                self._pass(frame, popped)
            elif not sheds or not len(queue):
                stride.inferred(frame.epoch, frame.received_at)
                popped.frame = frame
                if live:
                    self._outlook.taken(now)
                break
            else:  # a fresher one waits behind it
                self._outlook.shedding_until = now + SHEDDING_SECONDS
                if stride.may_pass(terms, frame.received_at):
                    self._pass(frame, popped)
                else:
                    popped.given_up.append((frame, "stale"))
            frame = queue.pop()
        return popped

    def fresher_within(self, now: float) -> float:
        """Return how long to wait for a fresher frame than those in the queue; 0 where it is not worth it."""
        return self._outlook.fresher_within(self.items[-1].received_at, now)

    def _pass(self, frame: Frame, popped: Popped) -> None:
        self._stride.passed()
        if self.terms.carries:
            popped.passing.append(frame)
        else:
            popped.given_up.append((frame, "stride"))

    def _too_late(self, frame: Frame, now: float, max_age_seconds: float | None) -> str:
        """Return why a frame is hopeless; empty where it is not."""
        if max_age_seconds is not None and now - frame.received_at > max_age_seconds:
            return "stale"
        deadline = self.terms.deadline
        if deadline is None:
            return ""
        work_seconds = self._to_publish.expected(now)
        return "deadline" if deadline.is_missed(frame, now + work_seconds, work_seconds) else ""

    def _sheds(self, now: float) -> bool:
        if len(self.queue) < self.terms.every:  # frames that wait for no run do not stand in the queue
            self._standing_since = None
        elif self._standing_since is None:
            self._standing_since = now
        standing = self._standing_since is not None and now - self._standing_since > _PATIENCE_SECONDS
        return standing or now < self._outlook.shedding_until


def _overtaken(terms: Terms) -> str:
    """Return what a frame is dropped for when a fresher one overtakes it; empty where it may be carried instead."""
    if terms.carries and (terms.adapt or terms.every > 1):
        return ""
    return "stride" if terms.adapt else "stale"
