"""A pipeline that is one of several: what the others did before it, and where its results go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.publish.sink import Sink


@dataclass(frozen=True, slots=True)
class Past:
    """How far a stream came before this pipeline took it over: subscribers see it go on from there."""

    sequence: int = 0
    """Of its latest message."""
    epoch: int = 0
    """Of its latest connection."""
    frames: int = 0
    """Frames that were received."""


@dataclass(frozen=True, slots=True)
class Part:
    """What makes a pipeline a part of a run."""

    publisher_id: str | None = None
    """The run's; None: it is a run of its own."""
    sink: Sink | None = None
    """Takes all results, instead of the configured sinks."""
    pasts: Mapping[str, Past] = field(default_factory=dict)
    """Stream id -> its past, where it has one."""


WHOLE = Part()
"""Of a pipeline that is the whole run."""
