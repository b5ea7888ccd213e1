"""The configuration: one section a stage, plain data that pickles. ``configs/reference.yaml`` explains every key."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

_DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(us|ms|s|m|h)\s*$")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(value: Any) -> float:
    """Return the seconds of "250ms", "5s", "2m" or "1h". Raises ValueError for a number without a unit."""
    match = _DURATION.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('a duration needs a unit: us, ms, s, m or h, as in "5s" or "250ms"')
    return float(match[1]) * _SECONDS[match[2]]


Duration = Annotated[
    float,
    BeforeValidator(parse_duration, json_schema_input_type=Annotated[str, Field(pattern=_DURATION.pattern)]),
]
"""Seconds, written with their unit: "5s", "250ms"."""

StreamId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class Section(BaseModel):
    """A mapping of the file: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceSection(Section):
    """How streams are opened and kept open; a stream may override any of it."""

    open_timeout: Duration = 5.0
    read_timeout: Duration = 3.0
    transport: Literal["tcp", "udp"] = "tcp"
    reconnect: bool = True
    reconnect_max_wait: Duration = 10.0


class DecodeSection(Section):
    """Decoding, and the queue behind it."""

    queue_frames: int | None = Field(None, ge=1, le=512)
    policy: Literal["auto", "block", "drop_oldest"] = "auto"
    threads: int = Field(0, ge=0, le=64)
    max_pixels: int = Field(36_000_000, ge=4096)


class InferSection(Section):
    """The model, and what runs it."""

    model: str
    runtime: Literal["auto", "cpu"] = "auto"
    prefer: Literal["auto", "latency", "throughput"] = "auto"
    threads: int | None = Field(None, ge=1, le=1024)
    batch_size: int | None = Field(None, ge=1, le=256)
    batch_deadline: Duration = 0.005


class PostprocessSection(Section):
    """From outputs to boxes."""

    score_threshold: float = Field(0.25, ge=0.0, le=1.0)
    iou_threshold: float = Field(0.5, ge=0.0, le=1.0)
    max_detections: int = Field(300, ge=1, le=10_000)
    classes: list[str | int] | None = None


class TrackSection(Section):
    """Identities."""

    tracker: Literal["off"] = "off"


class PublishSection(Section):
    """Where results go."""

    sinks: list[str] = []
    encoding: Literal["msgpack", "json"] = "msgpack"
    status_interval: Duration = 1.0


class KeepupSection(Section):
    """How pace is judged."""

    window: Duration = 5.0
    hysteresis: Duration = 2.0
    tolerance: float = Field(0.02, ge=0.0, le=0.5)
    max_age: Duration = 1.0


class StreamSection(Section):
    """One camera, file, folder of pictures or pattern."""

    id: StreamId
    url: str
    username: str | None = None
    password: SecretStr | None = None
    realtime: bool = False
    loop: bool = False
    video_track: int = Field(0, ge=0, le=64)
    transport: Literal["tcp", "udp"] | None = None
    open_timeout: Duration | None = None
    read_timeout: Duration | None = None
    queue_frames: int | None = Field(None, ge=1, le=512)
    policy: Literal["auto", "block", "drop_oldest"] | None = None


class Config(Section):
    """One pipeline."""

    streams: list[StreamSection] = Field(min_length=1, max_length=1024)
    source: SourceSection = SourceSection()
    decode: DecodeSection = DecodeSection()
    infer: InferSection
    postprocess: PostprocessSection = PostprocessSection()
    track: TrackSection = TrackSection()
    publish: PublishSection = PublishSection()
    keepup: KeepupSection = KeepupSection()

    @model_validator(mode="after")
    def _stream_ids_are_unique(self) -> Config:
        seen: set[str] = set()
        for stream in self.streams:
            if stream.id in seen:
                raise ValueError(f"stream id '{stream.id}' is used twice; every stream needs its own")
            seen.add(stream.id)
        return self
