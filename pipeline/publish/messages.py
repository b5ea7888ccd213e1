"""Message schema v1: what subscribers get. Field order and meaning never change; new fields go last with a default.

Two kinds, told apart by the field ``kind`` and by the topic ``<kind>/<stream_id>``:

- ``detections``: one a published frame.
- ``status``: one a stream and status interval; also the heartbeat, and what a late joiner gets at once.

A subscriber that sees ``sequence`` jump within one ``publisher`` and ``stream_id`` has lost messages; ``status``
carries the latest ``sequence``, so that a loss at the end is seen too. ``frame_index`` jumps where the pipeline itself
dropped frames, and ``status.dropped`` says where and why.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

SCHEMA_VERSION = 1

TrackState = Literal["tentative", "confirmed", "carried"]
CaptureClock = Literal["rtcp", "arrival", "file"]
Verdict = Literal[
    "starting",
    "keeping_up",
    "falling_behind",
    "overloaded",
    "stalled",
    "reconnecting",
    "offline",
    "ended",
    "frozen",
    "black",
    "paused",
]


class DetectedObject(Struct, frozen=True, gc=False):
    """One object of one frame."""

    xyxy: tuple[float, float, float, float]
    """Left, top, right, bottom in pixels of the upright source picture."""
    score: float
    """0-1."""
    class_id: int
    class_name: str
    track_id: int | None = None
    """Identity within the stream's epoch; None while tracking is off or the object is not confirmed."""
    track_age_seconds: float | None = None
    track_state: TrackState | None = None


class StageSeconds(Struct, frozen=True, gc=False):
    """Where one frame's time went, in seconds. ``wait`` is queueing; the rest is work."""

    decode: float
    wait: float
    preprocess: float
    infer: float
    postprocess: float
    track: float


class DetectionsMessage(Struct, frozen=True, tag="detections", tag_field="kind", gc=False):
    """The result of one frame. An empty ``objects`` is a result: nothing was found."""

    schema_version: int
    publisher: str
    """Random id of the publishing process run, 16 hex digits: a new one is a restart."""
    stream_id: str
    epoch: int
    """Counts the stream's connections from 1; track ids do not survive a change."""
    sequence: int
    """Counts the stream's published messages from 1, without a gap, over the publisher's life."""
    frame_index: int
    """Counts the stream's received frames from 0; a gap is a drop inside the pipeline."""
    pts_seconds: float
    """Presentation time since the epoch's first frame."""
    capture_utc: float
    """When the picture was taken, seconds since 1970, by ``capture_clock``."""
    capture_clock: CaptureClock
    published_utc: float
    age_seconds: float
    """From capture to publishing, on a monotonic clock."""
    frame_width: int
    """Pixels of the upright source picture; may change in mid-stream."""
    frame_height: int
    model: str
    objects: list[DetectedObject]
    stage_seconds: StageSeconds
    truncated: bool = False
    """More objects were found than ``postprocess.max_detections``."""
    damaged: bool = False
    """The decoder concealed errors in this picture."""
    inferred: bool = True
    """False where tracks were carried to a frame that the model did not see."""
    traceparent: str = ""
    """W3C trace context of the frame's trace, where ``trace`` is enabled: go on with it. Empty otherwise."""
    input_size: tuple[int, int] | None = None
    """Width and height at which the model saw the picture, in pixels; None where it did not see it. ``xyxy`` is in
    source pixels whatever it is."""


class AgePercentiles(Struct, frozen=True, gc=False):
    """Age from capture to publishing in seconds; None before the first frame."""

    p50: float | None
    p95: float | None
    p99: float | None
    max: float | None


class StatusMessage(Struct, frozen=True, tag="status", tag_field="kind", gc=False):
    """How one stream is doing. Counters count since the publisher started; rates and ages are of the last seconds."""

    schema_version: int
    publisher: str
    stream_id: str
    epoch: int
    sequence: int
    """``sequence`` of the stream's latest detections message."""
    published_utc: float
    verdict: Verdict
    cause: str
    """The stage in the way and the evidence for it, one line; empty while all is well."""
    state: str
    """Connection: "connecting", "live", "waiting", "paused", "ended"."""
    received: int
    published: int
    in_flight: int
    dropped: dict[str, dict[str, int]]
    """Stage -> reason -> frames."""
    cadence_fps: float | None
    """What the camera really delivers."""
    published_fps: float | None
    age_seconds: AgePercentiles
    wait_seconds_p95: float | None
    service_seconds_p95: float | None
    capture_clock: CaptureClock | None
    reconnects: int
    last_error: str
    """Why the stream is not delivering, redacted; empty while it is."""
    status_interval_seconds: float = 1.0
    """The next status comes within this time: three missed in a row mean that the publisher is gone."""
    headroom_streams: float | None = None
    """How many more cameras like this one would fit; below 0: so many too many. None while unknown, and for files."""
    published_share: float | None = None
    """Keep-up, 0-1: of the frames whose fate was decided in the last seconds, the share that was published."""
    inferred_every: float | None = None
    """The model saw one frame in so many in the last seconds, by the stream's stride; 1 where it saw every one."""
    input_size: tuple[int, int] | None = None
    """Width and height at which the model saw the latest frame, in pixels; None before the first."""


Message = DetectionsMessage | StatusMessage


def topic(message: Message) -> str:
    """``detections/lobby`` or ``status/lobby``: what subscribers filter by."""
    kind = "detections" if isinstance(message, DetectionsMessage) else "status"
    return f"{kind}/{message.stream_id}"
