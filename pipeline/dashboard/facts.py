"""What the control API answers. The structs are the contract: ``/openapi.json`` is generated from them."""

from __future__ import annotations

from msgspec import Struct

from pipeline.publish.messages import StatusMessage, Verdict


class StreamFacts(Struct, frozen=True):
    """One stream: how it is set, and how it is doing."""

    id: str
    url: str
    """Without user, password and what else may be secret."""
    live: bool
    """A camera, or a file paced as one: late frames are dropped, not waited for."""
    paused: bool
    tracker: str
    """bytetrack, ocsort or off."""
    deadline: str | None
    """Oldest that a published frame may be, as in "200ms", or "auto"; null sets no bound."""
    weight: float
    """Share of the capacity, against the weights of the others."""
    min_fps: float
    """Frames a second that it gets before anything is shared out by weight."""
    max_fps: float | None
    """Frames a second that are inferred at most; null: all that come."""
    score_threshold: float
    """Detections that score less are left out, 0-1."""
    status: StatusMessage
    """As subscribers get it."""


class RemovedStream(Struct, frozen=True):
    """What a removed stream amounted to: received = published + dropped + in flight."""

    id: str
    gone: bool
    """False where its source has not let go yet: it goes by itself."""
    received: int
    published: int
    in_flight: int
    dropped: dict[str, dict[str, int]]
    """Stage -> reason -> frames."""


class ProcessFacts(Struct, frozen=True):
    """The process, which is as well as its worst stream."""

    onpace: str
    """Version."""
    model: str
    runtime: str
    verdict: Verdict
    worst_stream: str
    """Empty without streams."""
    cause: str
    ready: bool
    """False while the model is being loaded, and once it was asked to stop."""


class StreamList(Struct, frozen=True):
    """All streams, in the order in which they were configured or added."""

    process: ProcessFacts
    streams: list[StreamFacts]


class Problem(Struct, frozen=True):
    """One thing that is wrong with a request."""

    path: str
    """The key, as in "weight"; empty where it concerns the whole request."""
    message: str
    """The value, what is allowed, what to do."""


class Refusal(Struct, frozen=True):
    """Why a request was not granted."""

    code: str
    """Stable, for programs: "not_found", "invalid", "token_needed", ..."""
    message: str
    """For people: all problems, a line each."""
    problems: list[Problem]


class RefusalBody(Struct, frozen=True):
    """The body of every answer that says no."""

    error: Refusal
