"""What the dashboard needs to know of a pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from pipeline.keepup.status import StreamStatus
from pipeline.plan import StreamPlan


class WatchedStream(Protocol):
    """One stream of it."""

    plan: StreamPlan

    @property
    def paused(self) -> bool:
        """Whether it was asked to pause."""


class Watched(Protocol):
    """A pipeline, as seen from the side. Everything may be asked from any thread, at any time."""

    failure: BaseException | None
    """What ended the pipeline early; None while it runs and after a proper end."""

    @property
    def model_and_runtime(self) -> tuple[str, str]:
        """The model's name, and what runs it."""

    @property
    def streams(self) -> Mapping[str, WatchedStream]:
        """The streams by their names, in order."""

    def status(self) -> Sequence[StreamStatus]:
        """How every stream is doing now."""

    def draining(self) -> bool:
        """Whether it was asked to stop."""
