"""The page that wires the seven stages: source -> decode -> preprocess -> infer -> postprocess -> track -> publish.

Three kinds of threads host them, and only queues stand between:

- one a stream: source -> decode, kept connected by its supervisor;  then the stream's bounded queue;
- one a slot of the runtime: preprocess -> infer -> postprocess, fed by the batcher;  then, when it is the batch's turn,
  track -> publish;
- one for the status messages and late joiners.

Keep-up watches from the side: every stage reports to the stream's meter.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from engines.cores import usable_cores
from engines.errors import DeviceLostError
from engines.inspect_model import read_model_spec
from engines.runtime import Runtime, Slot
from pipeline.clock import monotonic
from pipeline.config.sections import Config, StreamSection
from pipeline.dashboard.dashboard import Dashboard
from pipeline.decode.room import open_decoding
from pipeline.frame import Frame
from pipeline.infer.batcher import Batcher
from pipeline.infer.in_order import InOrder
from pipeline.infer.infer_step import SlotStep
from pipeline.infer.input_sizes import input_size
from pipeline.infer.open_model import open_model
from pipeline.infer.open_step import open_step
from pipeline.infer.resolution import Resolution
from pipeline.infer.run_pace import RunPace
from pipeline.infer.sized_runtime import SizedRuntime, gpu_slot
from pipeline.infer.slots import Slots
from pipeline.keepup.process_watch import ProcessWatch
from pipeline.keepup.status import StreamStatus
from pipeline.metrics.frame_times import FrameTimes
from pipeline.metrics.metrics import Metrics
from pipeline.part import WHOLE, Part, Past
from pipeline.plan import StreamPlan, plan_stream
from pipeline.publish.publish_step import PublishStep
from pipeline.publish.publisher import Publisher
from pipeline.publish.sinks import open_sinks
from pipeline.publish.tracing import open_tracing
from pipeline.samples import find_model
from pipeline.stage import StageThread
from pipeline.streams import Streams
from pipeline.timeline.timeline import Timeline
from pipeline.track.track_step import TrackStep

_log = logging.getLogger("onpace.pipeline")
_ABANDONED: list[object] = []
"""Keeps what lies on a lost GPU until the process ends."""


class Pipeline:
    """One running pipeline. Nothing global is needed to run two side by side."""

    def __init__(
        self, config: Config, config_file: Path | None = None, *, timeline: Timeline | None = None, part: Part = WHOLE
    ) -> None:
        """Open everything that can fail for bad input, before the first frame.

        ``config_file``: where ``config`` came from; ``dashboard.save`` writes changes back to it.
        ``timeline`` shows what every thread and slot does; whoever opened it closes it. ``part``: of a run that
        several pipelines make.
        Raises InputError (addresses), ModelError and RuntimeMissingError (the model and what runs it).
        """
        plans = [plan_stream(section, config) for section in config.streams]
        self.config = config
        self.config_file = config_file
        self._timeline = timeline
        self.failure: BaseException | None = None
        """What ended the pipeline early; None while it runs and after a proper end.

        DeviceLostError: the process must end, too, because nothing works on the GPU in it any more.
        """
        self._lock = threading.Lock()
        self._stopping = False
        model = find_model(config.infer.model)
        self.spec = read_model_spec(model, config.infer.facts)
        with ExitStack() as opened:  # gives back what is open when something after it fails
            # First of all: what takes long to load can be asked meanwhile whether it is ready.
            self.metrics = opened.enter_context(closing(Metrics(config.metrics.listen)))
            cameras = any(plan.endless for plan in plans)
            self.dashboard = opened.enter_context(closing(Dashboard(config.dashboard, cameras=cameras)))
            self._tracing = opened.enter_context(closing(open_tracing(config.trace)))
            # Before the model is loaded and warmed up: subscribers that wait already miss nothing.
            self._publisher = opened.enter_context(closing(self._open_publisher(part)))
            runtime, self._upgrade = open_model(config, model, self.spec, plans, self.metrics.builds)
            opened.callback(self._unless_lost, runtime.close)
            self._nvdec = open_decoding(gpu_slot(runtime), config.decode, len(plans))
            if self._nvdec is not None:
                opened.callback(self._unless_lost, self._nvdec.close)
            self._wire(plans, runtime, part.pasts)
            opened.callback(self._unless_lost, self._slots.close)
            if self._upgrade is not None:
                opened.callback(self._upgrade.close)
            self._opened = opened.pop_all()
        self.metrics.watch(self)
        self.dashboard.watch(self)

    def _wire(self, plans: Sequence[StreamPlan], runtime: Runtime, pasts: Mapping[str, Past]) -> None:
        keepup, timeline = self.config.keepup, self._timeline
        self._batcher = Batcher(
            batch_size=runtime.max_batch,
            deadline_seconds=self.config.infer.batch_deadline,
            max_age_seconds=keepup.max_age,
            on_drop=self._given_up,
        )
        self._watch = ProcessWatch(keepup.window, runtime, cores=usable_cores())
        self._track = TrackStep({}, score_threshold=self.config.postprocess.score_threshold)
        self.times = FrameTimes()
        # source -> decode
        self.streams = Streams(
            *(self.config, self._batcher, self._track, self.times, self._nvdec),
            input_size=input_size(self.spec),
            may_shrink=isinstance(runtime, SizedRuntime),
            on_failure=self._failed,
            timeline=timeline,
        )
        self._resolution = Resolution(self.streams, keepup.hysteresis, runtime)
        for section in self.config.streams:
            self.add(section, pasts.get(section.id))
        if not self.config.dashboard.stay:
            self._batcher.close()
        # track -> publish
        self._publishing = self._publish_step()
        self._in_order = InOrder(self._publishing.deliver, producers=len(runtime.slots))
        self._publish = StageThread("publish", self._keep_publishing, on_failure=self._failed)
        # preprocess -> infer -> postprocess
        self._slots = Slots(
            runtime,
            self._step,
            self._batcher,
            self._in_order,
            self._taken,
            just_in_time=self.streams.all_live,
            on_failure=self._failed,
            timeline=timeline,
        )
        if timeline is not None:
            timeline.watch(self.streams.waiting)

    def start(self) -> None:
        """Begin; returns at once."""
        self._publish.start()
        self._slots.start()
        self.streams.start()
        if self._upgrade is not None:
            self._upgrade.start(self._change_to)

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait until every stream has ended and every result is out; return whether that is so.

        Then ``failure`` is known, too: a slot that fails leaves before it says so.
        """
        return self._publish.join(timeout_seconds) and all(
            thread.join(timeout_seconds) for thread in self._slots.threads()
        )

    def stop(self) -> None:
        """Ask every stream to end. What was received already is still inferred and published: ``wait`` for it."""
        self._stopping = True
        self.streams.stop()
        self._batcher.close()

    def close(self) -> None:
        """Stop, give everything back. Closing twice is safe."""
        self.stop()
        for thread in self._threads():
            if not thread.join(5.0):
                _log.error("%s did not end within 5 s", thread.name)
        self._opened.close()  # the last that was opened first

    def _unless_lost(self, close: Callable[[], None]) -> None:
        """Close what lies on the GPU, but leave it alone where it is lost: libraries end the process over that."""
        if isinstance(self.failure, DeviceLostError):
            _ABANDONED.append(self)
        else:
            close()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def add(self, section: StreamSection, past: Past | None = None) -> None:
        """Take in one more stream, which goes on from its ``past``. Raises StreamError and UrlError."""
        if past is not None:
            self._publisher.resume(section.id, past.sequence)
        self.streams.add(section, past)

    def status(self) -> list[StreamStatus]:
        """How every stream is doing now, in the order of the configuration."""
        self._watch.use(self.runtime)
        return self._watch.status(self.streams.values_now(), monotonic())

    def sinks_lost(self) -> dict[str, int]:
        """Sink address -> messages that the sink could not hand on."""
        return self._publisher.lost

    @property
    def runtime(self) -> Runtime:
        """What runs the model now."""
        return self._slots.runtime

    @property
    def decodes_on_gpu(self) -> bool:
        """Whether pictures stay on the GPU, so that what is left here waits for Python's lock."""
        return self._nvdec is not None

    @property
    def model_and_runtime(self) -> tuple[str, str]:
        """The model's name, and what runs it."""
        return self.spec.name, self.runtime.name

    def ticked_at(self) -> float | None:
        """Monotonic seconds when the publish thread last came round; None before it starts and after it ended."""
        return self._publishing.ticked_at

    def stuck(self, patience_seconds: float) -> str:
        """What hangs for longer than that, so that only a restart helps, for people; empty while everything moves."""
        return self._slots.stuck(patience_seconds)

    def draining(self) -> bool:
        """Whether it was asked to stop, or has ended."""
        return self._stopping

    def _threads(self) -> list[StageThread]:
        """Every thread, in the way of a frame."""
        return [*self.streams.values_now(), *self._slots.threads(), self._publish]

    def _step(self, slot: Slot, pace: RunPace) -> SlotStep:
        watch, limits = self._watch, self._track.limits
        post, resolution = self.config.postprocess, self._resolution
        return open_step(self.spec, slot, post, watch.infer, watch.runs, pace, limits, resolution)

    def _change_to(self, runtime: Runtime) -> None:
        self._resolution.use(runtime)
        changed = False
        try:
            changed = self._slots.change_to(runtime)
        finally:
            if not changed:
                self._resolution.use(self._slots.runtime)

    def _keep_publishing(self) -> None:
        self._publishing.run(self._in_order.wait_until_finished)

    def _open_publisher(self, part: Part) -> Publisher:
        publish = self.config.publish
        return Publisher(
            open_sinks(publish) if part.sink is None else [part.sink],
            model_name=self.spec.name,
            class_names=self.spec.class_names,
            input_size=input_size(self.spec),
            status_interval=publish.status_interval,
            also=self.dashboard.feed.send,
            publisher_id=part.publisher_id,
        )

    def _publish_step(self) -> PublishStep:
        return PublishStep(
            self._publisher,
            self.streams,
            self._track,
            self._watch.publish,
            self._batcher.time_to_publish,
            status=self.status,
            times=self.times,
            status_interval_seconds=self.config.publish.status_interval,
            on_published=self.dashboard.preview.offer,
            tracing=self._tracing,
            timeline=self._timeline,
            on_tick=self._resolution.tick,
        )

    def _taken(self, stream_id: str, frames: int) -> None:
        self.streams[stream_id].meter.ledger.move("queue", "infer", frames)

    def _given_up(self, frame: Frame, reason: str) -> None:
        self.streams[frame.stream_id].meter.dropped("queue", "infer", reason, monotonic())

    def _failed(self, error: BaseException) -> None:
        """A stage died: end the pipeline and keep the reason for the exit code."""
        with self._lock:
            if self.failure is None or isinstance(error, DeviceLostError):  # what else fails then, fails of that
                self.failure = error
        self.stop()
        self._in_order.close()
