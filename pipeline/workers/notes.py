"""What a worker tells its parent. Typed, and decoded as nothing else: a worker that was taken over stays a worker."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

from engines.builds import BuildCount
from pipeline.keepup.ledger import LedgerSnapshot
from pipeline.keepup.status import StreamStatus

Problem = Literal["input", "model", "runtime_missing", "failed"]


class Hello(Struct, tag=True):
    """The process runs, and listens."""

    pid: int


class Ready(Struct, tag=True):
    """The model is loaded, and everything is open: streams may start."""

    model: str
    runtime: str
    described: str
    """The runtime in words."""


class StartFailed(Struct, tag=True):
    """It cannot start; ``message`` is for people."""

    problem: Problem
    message: str


class Failed(Struct, tag=True):
    """It ends early: its last words."""

    reason: str
    """As metrics have it."""
    message: str


class Times(Struct):
    """What published frames took, in the buckets of ``FrameTimes``: counts and the sum in seconds."""

    ages: dict[str, tuple[list[int], float]]
    waits: dict[str, tuple[list[int], float]]
    stages: dict[str, tuple[list[int], float]]


class Report(Struct, tag=True):
    """How the worker and its streams are doing."""

    statuses: list[StreamStatus]
    failed: list[str]
    """Streams that were given up."""
    times: Times
    runtime: str
    cpu_seconds: float
    resident_bytes: int
    lost: int
    """Messages that its parent was too slow to take."""
    stuck: str
    """What hangs, so that only a restart helps; empty while everything moves."""
    ended: bool
    """Every stream has ended, and every result is out: there is nothing to come."""
    failing: bool
    """A stage failed, and that is why streams have ended."""
    builds: list[BuildCount] = []
    """What had to be made before its model ran."""


class LogLine(Struct, tag=True):
    """One line for the log."""

    level: int
    name: str
    message: str


class Reply(Struct, tag=True):
    """The answer to ``orders.Ask``."""

    number: int
    error: str = ""
    """What was refused, for people; empty where it was done."""
    known: bool = True
    """Whether there is such a stream."""
    gone: bool = False
    """Of a removal: whether the stream's last frame has left."""
    ledger: LedgerSnapshot | None = None
    """Of a removal: what the stream amounted to."""


class Seen(Struct, tag=True):
    """A picture for somebody who looks (``orders.Look``)."""

    number: int
    stream_id: str
    message: bytes
    jpeg: bytes


Note = Hello | Ready | StartFailed | Failed | Report | LogLine | Reply | Seen

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Note] = msgspec.msgpack.Decoder(Note)


def encode(note: Note) -> bytes:
    """Return the note as bytes."""
    return _encoder.encode(note)


def decode(body: bytes) -> Note:
    """Return the note. Raises msgspec.DecodeError."""
    return _decoder.decode(body)
