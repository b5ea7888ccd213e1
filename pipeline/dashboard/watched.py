"""What the dashboard needs to know of a pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from pipeline.config.sections import Config, StreamSection
from pipeline.keepup.status import StreamStatus
from pipeline.plan import StreamPlan
from pipeline.streams import Removed


class Steered(Protocol):
    """One stream."""

    @property
    def plan(self) -> StreamPlan:
        """How it is set."""

    @property
    def paused(self) -> bool:
        """Whether it was asked to pause."""


class SteeredStreams(Protocol):
    """The streams of a run, which come and go. What cannot be done raises StreamError or UrlError."""

    def get(self, stream_id: str, /) -> Steered | None:
        """Return a stream."""

    def add(self, section: StreamSection) -> None:
        """Take in one more."""

    def section(self, stream_id: str) -> StreamSection:
        """Return how a stream is configured now."""

    def change(self, stream_id: str, section: StreamSection) -> None:
        """Let a stream have the terms of ``section``."""

    def pause(self, stream_id: str) -> None:
        """Let a stream leave its source until it is resumed."""

    def resume(self, stream_id: str) -> None:
        """End a pause."""

    def restart(self, stream_id: str) -> None:
        """Open a stream's source anew."""

    def remove(self, stream_id: str, wait_seconds: float = 0.0) -> Removed:
        """Ask a stream to end and to go, and wait so long for that."""


class Watched(Protocol):
    """A pipeline, as seen from the side. Everything may be asked from any thread, at any time."""

    config: Config
    config_file: Path | None
    """Where it came from, if that was a file."""
    failure: BaseException | None
    """What ended the pipeline early; None while it runs and after a proper end."""

    @property
    def streams(self) -> SteeredStreams:
        """What there is."""

    @property
    def model_and_runtime(self) -> tuple[str, str]:
        """The model's name, and what runs it."""

    def status(self) -> Sequence[StreamStatus]:
        """How every stream is doing now."""

    def draining(self) -> bool:
        """Whether it was asked to stop."""
