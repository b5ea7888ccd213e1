"""The configuration: one section a stage, plain data that pickles. ``configs/reference.yaml`` explains every key."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from pipeline.config.engine_section import EngineSection
from pipeline.config.values import (
    ClassRef,
    DashboardListen,
    DeadlineSetting,
    Duration,
    Listen,
    Number,
    Policy,
    Section,
    SmallerInput,
    StreamId,
    Switch,
    TrackerName,
    Transport,
    Whole,
    WorkerCount,
)

MOST_STREAMS = 1024


class SourceSection(Section):
    """How streams are opened and kept open."""

    open_timeout: Duration = Field(5.0, ge=0.1, le=300.0)
    """Longest wait for a stream to open before it counts as unreachable."""
    read_timeout: Duration = Field(3.0, ge=0.1, le=300.0)
    """Longest silence of an open stream before it counts as stalled and is reconnected."""
    transport: Transport = "tcp"
    """RTSP: how media travels. tcp loses nothing; udp arrives sooner and loses packets on a busy network."""
    reconnect: Switch = True
    """Whether a camera that is lost, or absent at the start, is tried again."""
    reconnect_max_wait: Duration = Field(10.0, ge=0.1, le=3600.0)
    """Longest wait between two attempts; the first ones follow faster."""


class DecodeSection(Section):
    """Decoding, and the queue behind it."""

    queue_frames: Whole = Field(8, ge=1, le=512)
    """Frames of a stream that may wait after decoding. Higher rides out longer stalls; lower keeps memory down."""
    policy: Policy = "auto"
    """What a full queue does: block (wait), drop_oldest, or auto: drop_oldest for live streams, block for the rest."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """Where video is decoded. auto: on the GPU where the model runs there and NVDEC works, stream by stream."""
    threads: Whole | None = Field(None, ge=0, le=64)
    """Threads that decode one stream. null: 2 for files, 1 for live streams; 0 lets the codec choose."""
    max_pixels: Whole = Field(36_000_000, ge=4096, le=134_217_728)
    """Largest picture that is decoded, width times height; a larger one ends the stream with an error."""


class InferSection(Section):
    """The model, and what runs it."""

    model: str = Field(min_length=1)
    """The detector, an ONNX file: a path, relative to this file, or sample:NAME."""
    facts: dict[str, Any] = Field(default_factory=dict)
    """What is stated about the model where its file does not say it, or says it wrongly."""
    runtime: Literal["auto", "tensorrt", "cuda", "cpu"] = "auto"
    """What runs the model. auto takes the fastest that works on this machine."""
    precision: Literal["fp32", "fp16", "bf16", "int8", "fp8"] | None = None
    """What the model is turned into before it runs. null: as its file is. int8 and fp8 need infer.calibration."""
    calibration: list[str] = Field(default_factory=list)
    """Where int8 and fp8 take their ranges from: videos, picture folders, globs, recordings (relative to this file)."""
    calibration_pictures: Whole = Field(32, ge=1, le=10_000)
    """How many pictures of infer.calibration are looked at, spread over all of it."""
    calibration_method: Literal["percentile", "entropy", "minmax"] = "percentile"
    """How ranges are taken from them: what holds 99.999 % of the values, what loses least of them, or all."""
    gpu: Whole = Field(0, ge=0, le=63)
    """Which GPU, counted from 0."""
    prefer: Literal["auto", "latency", "throughput"] = "auto"
    """latency: one wide run at a time; throughput: several narrow ones; auto: measured at the start."""
    threads: Whole | None = Field(None, ge=1, le=1024)
    """CPU threads for inference in all. null: every core that the process may use."""
    batch_size: Whole | None = Field(None, ge=1, le=256)
    """Most frames that share one run of the model. null lets the runtime choose."""
    batch_deadline: Duration = Field(0.005, ge=0.0, le=1.0)
    """Longest wait for a batch to fill."""
    every: Whole = Field(1, ge=1, le=100)
    """The model sees every n-th frame of a stream; a tracker carries its boxes to those between."""
    smaller: list[SmallerInput] = Field(default_factory=list, max_length=8)
    """What adapt: resolution falls back to, the largest first: files of the same model, or input sizes."""


class PostprocessSection(Section):
    """From outputs to boxes."""

    score_threshold: Number = Field(0.25, ge=0.0, le=1.0)
    """Detections that score less are left out, except those of a confirmed track."""
    iou_threshold: Number = Field(0.5, ge=0.0, le=1.0)
    """Of two boxes of a class that overlap more (intersection over union), the lower-scoring one is left out."""
    max_detections: Whole = Field(300, ge=1, le=10_000)
    """Most detections of one frame, the best first."""
    classes: list[ClassRef] | None = None
    """Which classes to keep, by name or index. null keeps all."""


class TrackSection(Section):
    """Identities."""

    tracker: TrackerName = "off"
    """What gives objects an identity from frame to frame: bytetrack, ocsort, or off: nothing does."""
    new_track_score: Number | None = Field(None, ge=0.0, le=1.0)
    """Score of a detection that begins a track. null: halfway from postprocess.score_threshold to 1."""


class CurveSection(Section):
    """Who may subscribe over ZeroMQ: everything is encrypted, and strangers get nothing."""

    keys: str
    """The publisher's own secret key file, made with 'onpace keys'; relative to this file."""
    allow: str
    """Folder of the public key files of those who may subscribe; read anew whenever somebody connects."""


class PublishSection(Section):
    """Where results go."""

    sinks: list[str] = Field(default_factory=list)
    """Addresses: zmq:tcp://HOST:PORT, zmq:ipc://PATH, jsonl:PATH (relative to this file), jsonl:- (standard output)."""
    encoding: Literal["msgpack", "json"] = "msgpack"
    """How ZeroMQ messages are written. JSON Lines are JSON whatever this says."""
    status_interval: Duration = Field(1.0, ge=0.1, le=3600.0)
    """How often each stream's verdict is published."""
    curve: CurveSection | None = None
    """Keys that close the ZeroMQ sinks to strangers. null: whoever reaches the address can read."""


class KeepupSection(Section):
    """How pace is judged."""

    window: Duration = Field(5.0, ge=0.5, le=600.0)
    """The time that rates, ages and verdicts look back over."""
    hysteresis: Duration = Field(2.0, ge=0.0, le=600.0)
    """Within this time a plain change of pace shows; what is shorter does not show."""
    tolerance: Number = Field(0.02, ge=0.0, le=0.5)
    """Share of the frames that may be dropped by a stream that still counts as keeping up."""
    max_age: Duration = Field(1.0, ge=0.001, le=3600.0)
    """Age, from capture to publish, at which a live frame is too old: it is dropped, and the stream is behind."""


class MetricsSection(Section):
    """Metrics and health over HTTP."""

    listen: Listen | None = None
    """Where /metrics, /livez, /readyz and /healthz are served, as in 127.0.0.1:9464. null: nowhere."""


class TraceSection(Section):
    """OpenTelemetry traces of frames."""

    enabled: Switch = False
    """Whether each frame's message carries a W3C trace context."""
    otlp: str | None = Field(None, pattern=r"^https?://\S+$")
    """Where spans are sent, OTLP over HTTP, as in http://127.0.0.1:4318/v1/traces. null: only contexts are made."""
    sample: Number = Field(1.0, ge=0.0, le=1.0)
    """Share of the frames that are traced."""


class DashboardSection(Section):
    """The live view and the control API, over HTTP."""

    listen: DashboardListen | None = "auto"
    """Where they are served. auto: on 127.0.0.1:8080 while there are cameras; null: nowhere."""
    token: SecretStr | None = None
    """What whoever asks must know. Needed beyond loopback. Take it from ${NAME} or ${file:PATH}."""
    stay: Switch = False
    """Go on when the last stream has ended: more can be added."""
    save: Switch = False
    """Write changes that were made over HTTP back into the configuration file."""
    preview_fps: Number = Field(10.0, ge=0.0, le=30.0)
    """Most pictures a second that the live view gets of one stream. 0 shows no pictures at all."""
    history: Duration = Field(600.0, ge=60.0, le=3600.0)
    """How far back the live view's charts go."""


class OverloadSection(Section):
    """Who gets what when there is not enough capacity for all."""

    deadline: DeadlineSetting | None = "auto"
    """Oldest that a published live frame may be, from capture. auto: keepup.max_age from arrival, and never less than
    1.5 times what the work on a frame takes. null: no bound but keepup.max_age in the queue. 10ms to 1h."""
    weight: Number = Field(1.0, ge=0.01, le=100.0)
    """A stream's share of the capacity, against the weights of the others."""
    min_fps: Number = Field(0.0, ge=0.0, le=1000.0)
    """Frames a second that a stream gets before anything is shared out by weight."""
    adapt: Literal["none", "stride", "resolution"] = "none"
    """What a live stream may do instead of losing frames: let the model see fewer of them, or see them smaller."""


class WorkersSection(Section):
    """Processes that share the streams."""

    count: WorkerCount = 1
    """How many. 1: everything in one process. auto: by streams, cores and GPU."""
    restart_max_wait: Duration = Field(30.0, ge=1.0, le=3600.0)
    """Longest wait before a worker that was lost is started again; the first ones follow faster."""
    most_memory: Whole | None = Field(None, ge=64, le=1_048_576)
    """Memory that a worker may hold, in MiB; one that holds more is started again. null: as much as there is."""
    one_core: Switch = True
    """Where the GPU decodes, a worker keeps to one core while nobody else wants it: its threads take turns anyway."""


class StreamSection(Section):
    """One camera, file, folder of pictures or pattern."""

    id: StreamId
    """The stream's name in messages, metrics and logs: letters, digits, '_', '.' and '-', at most 64."""
    url: str = Field(min_length=1)
    """rtsp://, rtsps://, a file, a folder or glob of pictures, images:, camera:0, pattern: or sample:NAME."""
    username: str | None = None
    """User, where the URL holds none."""
    password: SecretStr | None = None
    """Password. Take it from the environment, ${NAME}, or from a file, ${file:PATH}."""
    realtime: Switch = False
    """Play a file at its own pace, as if it were a camera: late frames are then dropped."""
    loop: Switch = False
    """Begin a file again at its end."""
    video_track: Whole = Field(0, ge=0, le=64)
    """Which video track of a file that has several."""
    transport: Transport | None = None
    """As source.transport, for this stream."""
    open_timeout: Duration | None = Field(None, ge=0.1, le=300.0)
    """As source.open_timeout, for this stream."""
    read_timeout: Duration | None = Field(None, ge=0.1, le=300.0)
    """As source.read_timeout, for this stream."""
    queue_frames: Whole | None = Field(None, ge=1, le=512)
    """As decode.queue_frames, for this stream."""
    policy: Policy | None = None
    """As decode.policy, for this stream."""
    tracker: TrackerName | None = None
    """As track.tracker, for this stream."""
    deadline: DeadlineSetting | None = None
    """As overload.deadline, for this stream."""
    weight: Number | None = Field(None, ge=0.01, le=100.0)
    """As overload.weight, for this stream."""
    min_fps: Number | None = Field(None, ge=0.0, le=1000.0)
    """As overload.min_fps, for this stream."""
    adapt: Literal["none", "stride", "resolution"] | None = None
    """As overload.adapt, for this stream."""
    every: Whole | None = Field(None, ge=1, le=100)
    """As infer.every, for this stream."""
    max_fps: Number | None = Field(None, ge=0.01, le=1000.0)
    """Frames a second that are inferred at most. null: all that come."""
    score_threshold: Number | None = Field(None, ge=0.0, le=1.0)
    """As postprocess.score_threshold, for this stream."""


class Config(Section):
    """One pipeline."""

    streams: list[StreamSection] = Field(min_length=1, max_length=MOST_STREAMS)
    """What is watched."""
    source: SourceSection = SourceSection()
    """How streams are opened and kept open; a stream may override some of it."""
    decode: DecodeSection = DecodeSection()
    """Decoding, and the queue behind it; a stream may override some of it."""
    infer: InferSection
    """The model, and what runs it."""
    engine: EngineSection = EngineSection()
    """TensorRT's plans."""
    postprocess: PostprocessSection = PostprocessSection()
    """From the model's outputs to boxes."""
    track: TrackSection = TrackSection()
    """Identities of objects."""
    publish: PublishSection = PublishSection()
    """Where results go."""
    keepup: KeepupSection = KeepupSection()
    """How pace is judged."""
    metrics: MetricsSection = MetricsSection()
    """Metrics and health over HTTP."""
    trace: TraceSection = TraceSection()
    """OpenTelemetry traces of frames."""
    dashboard: DashboardSection = DashboardSection()
    """The live view and the control API, over HTTP."""
    overload: OverloadSection = OverloadSection()
    """Who gets what when there is not enough capacity for all; a stream may override it."""
    workers: WorkersSection = WorkersSection()
    """Processes that share the streams."""

    @model_validator(mode="after")
    def _stream_ids_are_unique(self) -> Config:
        seen: set[str] = set()
        for stream in self.streams:
            if stream.id in seen:
                raise PydanticCustomError("duplicate_stream_id", "a stream id is used twice; give each its own")
            seen.add(stream.id)
        return self
