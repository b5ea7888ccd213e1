"""What metrics and health need to know of a pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.keepup.status import StreamStatus
from pipeline.metrics.frame_times import FrameTimes


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """One worker process."""

    number: int
    """From 1."""
    up: bool
    """Whether it has loaded the model and works."""
    ended: bool
    """Whether it has nothing to do any more: all its streams have ended."""
    cause: str
    """Why it is not there, for people; empty while it is."""
    restarts: dict[str, int]
    """Reason -> how often it was lost for it, and started again."""
    cpu_seconds: float
    """Processor time so far, as far as it was reported."""
    resident_bytes: int
    """Memory it holds; 0 while there is none."""


class Watched(Protocol):
    """A pipeline, as seen from the side. Everything may be asked from any thread, at any time."""

    failure: BaseException | None
    """What ended the pipeline early; None while it runs and after a proper end."""

    @property
    def times(self) -> FrameTimes:
        """What published frames took."""

    @property
    def model_and_runtime(self) -> tuple[str, str]:
        """The model's name, and what runs it."""

    def status(self) -> Sequence[StreamStatus]:
        """How every stream is doing now."""

    def sinks_lost(self) -> dict[str, int]:
        """Sink address, safe to print -> messages that the sink could not hand on."""

    def ticked_at(self) -> float | None:
        """Monotonic seconds when the publish thread last came round; None before it starts and after it ended."""

    def stuck(self, patience_seconds: float) -> str:
        """What hangs for longer than that, so that only a restart helps, for people; empty while everything moves."""

    def draining(self) -> bool:
        """Whether it was asked to stop."""
