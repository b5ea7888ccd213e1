"""From configuration to plain plans: what each stream's supervisor needs, with defaults and overrides settled."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.bounded_queue import Policy
from pipeline.capture import CaptureLimits
from pipeline.config.sections import Config, StreamSection
from pipeline.infer.terms import Terms
from pipeline.source.address import parse_address
from pipeline.source.source import SourceOptions

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
    decode_threads: int
    queue_frames: int
    policy: Policy
    limits: CaptureLimits
    tracker: str
    """Key of ``pipeline.track.TRACKERS``, or "off"."""
    terms: Terms
    """What it may ask for under overload."""


def plan_stream(section: StreamSection, config: Config) -> StreamPlan:
    """Settle one stream's plan. Raises UrlError for an address that is not allowed."""
    endless = parse_address(section.url).scheme in LIVE_SCHEMES
    live = endless or section.realtime
    read_timeout = section.read_timeout if section.read_timeout is not None else config.source.read_timeout
    open_timeout = section.open_timeout if section.open_timeout is not None else config.source.open_timeout
    policy = section.policy or config.decode.policy
    return StreamPlan(
        stream_id=section.id,
        url=section.url,
        options=SourceOptions(
            realtime=section.realtime,
            transport=section.transport or config.source.transport,
            open_timeout_seconds=open_timeout,
            read_timeout_seconds=read_timeout,
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
        queue_frames=section.queue_frames or config.decode.queue_frames,
        policy=("drop_oldest" if live else "block") if policy == "auto" else policy,
        limits=CaptureLimits(max_pixels=config.decode.max_pixels, stall_seconds=read_timeout),
        tracker=section.tracker or config.track.tracker,
        terms=_terms(section, config, live),
    )


def _terms(section: StreamSection, config: Config, live: bool) -> Terms:
    overload = config.overload
    deadline = section.deadline if section.deadline is not None else overload.deadline
    return Terms(
        deadline_seconds=deadline if live else None,  # a file waits for us: nothing of it is ever too late
        weight=(section.weight if section.weight is not None else overload.weight) * (1.0 if live else _PATIENT_SHARE),
        min_fps=section.min_fps if section.min_fps is not None else overload.min_fps,
    )
