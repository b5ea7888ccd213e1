"""What the dashboard needs to know of a pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from pipeline.config.sections import Config
from pipeline.keepup.status import StreamStatus
from pipeline.streams import Streams


class Watched(Protocol):
    """A pipeline, as seen from the side. Everything may be asked from any thread, at any time."""

    config: Config
    config_file: Path | None
    """Where it came from, if that was a file."""
    failure: BaseException | None
    """What ended the pipeline early; None while it runs and after a proper end."""
    streams: Streams

    @property
    def model_and_runtime(self) -> tuple[str, str]:
        """The model's name, and what runs it."""

    def status(self) -> Sequence[StreamStatus]:
        """How every stream is doing now."""

    def draining(self) -> bool:
        """Whether it was asked to stop."""
