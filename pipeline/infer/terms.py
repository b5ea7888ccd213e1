"""How much inference a stream asks for, and what it may ask for when there is not enough for all. Plain data."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.estimate import Estimate
from pipeline.frame import Frame

GIVES_WAY_TIMES = 1.5
"""A deadline that gives way is never less than so many times what the work on a frame takes."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """The oldest that a published frame may be."""

    seconds: float
    gives_way: bool = False
    """Nobody asked for it: it counts from arrival, because what the camera and the network take cannot be made up for,
    and a machine whose work alone takes longer goes on publishing."""

    def is_missed(self, frame: Frame, published_at: float, work_seconds: float) -> bool:
        """Whether a frame that is published at that monotonic second is too old.

        ``work_seconds``: what frames take from being taken to being published.
        """
        if self.gives_way:
            return published_at - frame.received_at > max(self.seconds, GIVES_WAY_TIMES * work_seconds)
        return published_at - frame.captured_at > self.seconds


@dataclass(frozen=True, slots=True)
class Terms:
    """One stream's terms."""

    deadline: Deadline | None = None
    """None sets no bound."""
    weight: float = 1.0
    """Share of the capacity, against the weights of the others. Above 0."""
    min_fps: float = 0.0
    """Frames a second that it gets before anything is shared out by weight."""
    every: int = 1
    """The model sees every n-th frame of the queue."""
    adapt: bool = False
    """Whether it sees fewer while it cannot keep up, instead of frames being lost."""
    carries: bool = False
    """Whether tracks are carried to the frames between, so that they are published; without, they are dropped."""

    def __post_init__(self) -> None:
        if self.weight <= 0:
            raise ValueError(f"weight must be above 0, got {self.weight}")
        if self.every < 1:
            raise ValueError(f"every must be at least 1, got {self.every}")


class TimeToPublish:
    """How long a frame takes from being taken to being published, learned from the frames before it.

    Mean plus mean deviation, of the last dozen batches. What was learned fades (by half each second without news): a
    hiccup must not make every later frame seem hopeless. One thread reports, others may ask.
    """

    def __init__(self) -> None:
        self._seconds = Estimate()
        self._learned_at = float("-inf")

    def report(self, seconds: float, now: float) -> None:
        """One batch took so long; ``now`` is the monotonic clock."""
        self._seconds.learn(seconds)
        self._learned_at = now

    def expected(self, now: float) -> float:
        """Return the seconds that a frame taken at ``now`` will likely need; 0 before anything is known."""
        silence = now - self._learned_at - _FRESH_SECONDS
        seconds = (self._seconds.mean or 0.0) + self._seconds.deviation
        if silence > 0:
            seconds *= float(0.5**silence)
        return seconds


_FRESH_SECONDS = 0.5
