"""What the parent tells a worker. Pickled: it is the parent's own program, on the same machine."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.config.sections import Config, StreamSection
from pipeline.part import Past
from pipeline.publish.sink import Encoding
from pipeline.timeline.timeline import Begun

Action = Literal["add", "change", "pause", "resume", "restart", "remove"]


@dataclass(frozen=True, slots=True)
class Assignment:
    """The first order: who the worker is, and what it has to do."""

    number: int
    workers: int
    """How many there are, itself included."""
    config: Config
    publisher_id: str
    encodings: frozenset[Encoding]
    """What messages are wanted in."""
    pasts: dict[str, Past]
    log_level: int
    report_seconds: float
    timeline: Begun | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """Let the streams play."""


@dataclass(frozen=True, slots=True)
class Stop:
    """End every stream; what was received is still published."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Do something to a stream, and reply."""

    number: int
    action: Action
    stream_id: str
    section: StreamSection | None = None
    past: Past | None = None
    wait_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Look:
    """Send pictures of these streams until told otherwise."""

    number: int
    stream_ids: tuple[str, ...]
    width: int
    of: int
    """How many streams whoever looks sees in all, those of other workers included."""


@dataclass(frozen=True, slots=True)
class LookAway:
    """Nobody looks any more."""

    number: int


Order = Assignment | Start | Stop | Ask | Look | LookAway


def encode(order: Order) -> bytes:
    """Return the order as bytes."""
    return pickle.dumps(order, protocol=pickle.HIGHEST_PROTOCOL)


def decode(body: bytes) -> Any:
    """Return the order. Only for what a worker gets from its parent: a pickle is a program."""
    return pickle.loads(body)
