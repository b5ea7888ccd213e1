"""From configuration to plain plans: what each stream's supervisor needs, with defaults and overrides settled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from pipeline.bounded_queue import Policy
from pipeline.capture import CaptureLimits
from pipeline.config.sections import Config, StreamSection
from pipeline.infer.terms import Deadline, Terms
from pipeline.source.address import parse_address
from pipeline.source.source import SourceOptions

Value = TypeVar("Value")

LIVE_SCHEMES = frozenset({"rtsp", "rtsps", "camera"})
"""Sources that never end by themselves: an end is a failure, and failures are retried."""

_PATIENT_SHARE = 0.1
"""A file read as fast as possible always has a frame ready, and can wait: beside cameras it gets what they leave, and a
tenth of a camera's share where they leave nothing."""


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """One stream, ready to be supervised. Plain data."""

    stream_id: str
    url: str
    options: SourceOptions
    endless: bool
    """A camera: expected to deliver for ever."""
    live: bool
    """A camera, or a file paced as one: late frames are dropped, not waited for."""
    loop: bool
    reconnect: bool
    reconnect_max_wait_seconds: float
    decode_threads: int | None
    queue_frames: int
    policy: Policy
    limits: CaptureLimits
    tracker: str
    """Key of ``pipeline.track.TRACKERS``, or "off"."""
    terms: Terms
    """How much inference it asks for, and what it may ask for under overload."""
    shrinks: bool
    """Whether the model may see it smaller under overload."""
    max_fps: float | None
    """Frames a second that go on to the model, at most; None: all."""
    every: int
    """Of those, one in so many goes on; a stream that is tracked leaves frames out later, by its ``terms``."""
    score_threshold: float
    section: StreamSection
    """As it was configured."""
    settled: StreamSection
    """The same, with what it leaves to the other sections filled in."""


def plan_stream(section: StreamSection, config: Config) -> StreamPlan:
    """Settle one stream's plan. Raises UrlError for an address that is not allowed."""
    settled = _settled(section, config)
    endless = parse_address(section.url).scheme in LIVE_SCHEMES
    live = endless or section.realtime
    return StreamPlan(
        stream_id=section.id,
        url=section.url,
        options=SourceOptions(
            realtime=section.realtime,
            transport=_set(settled.transport),
            open_timeout_seconds=_set(settled.open_timeout),
            read_timeout_seconds=_set(settled.read_timeout),
            username=section.username,
            password=section.password.get_secret_value() if section.password else None,
            video_track=section.video_track,
        ),
        endless=endless,
        live=live,
        loop=section.loop,
        reconnect=config.source.reconnect,
        reconnect_max_wait_seconds=config.source.reconnect_max_wait,
        decode_threads=config.decode.threads,
        queue_frames=_set(settled.queue_frames),
        policy=("drop_oldest" if live else "block") if settled.policy == "auto" else _set(settled.policy),
        limits=CaptureLimits(max_pixels=config.decode.max_pixels, stall_seconds=_set(settled.read_timeout)),
        tracker=_set(settled.tracker),
        terms=_terms(settled, config, live),
        shrinks=live and settled.adapt == "resolution",
        max_fps=section.max_fps,
        every=1 if _carries(settled) else _set(settled.every),
        score_threshold=_set(settled.score_threshold),
        section=section,
        settled=settled,
    )


def _settled(section: StreamSection, config: Config) -> StreamSection:
    """Return ``section`` with each key that it leaves open taken from the section that is named for it."""
    general = {
        name: getattr(home, name)
        for home in (config.source, config.decode, config.infer, config.postprocess, config.track, config.overload)
        for name in type(home).model_fields
        if name in StreamSection.model_fields and getattr(section, name) is None
    }
    return section.model_copy(update=general)


def _set(value: Value | None) -> Value:
    """Return a value that has been settled."""
    if value is None:
        raise ValueError("a stream's setting was left open")
    return value


def _terms(settled: StreamSection, config: Config, live: bool) -> Terms:
    return Terms(
        deadline=_deadline(settled, config) if live else None,  # a file waits for us: nothing of it is ever too late
        weight=_set(settled.weight) * (1.0 if live else _PATIENT_SHARE),
        min_fps=_set(settled.min_fps),
        every=_set(settled.every) if _carries(settled) else 1,
        adapt=live and settled.adapt == "stride",
        carries=_carries(settled),
    )


def _deadline(settled: StreamSection, config: Config) -> Deadline | None:
    if settled.deadline is None:
        return None
    if settled.deadline == "auto":
        return Deadline(config.keepup.max_age, gives_way=True)
    return Deadline(settled.deadline)


def _carries(settled: StreamSection) -> bool:
    return settled.tracker != "off"
