"""Sends every frame of a finished batch on its way: track -> publish, and between them the status messages."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from engines.nvtx import profiled_range
from pipeline.clock import monotonic
from pipeline.frame import Frame, count_by_stream
from pipeline.infer.batch import Batch
from pipeline.infer.terms import Deadline, TimeToPublish
from pipeline.keepup.load import BusyClock
from pipeline.keepup.meter import StreamMeter
from pipeline.keepup.status import StreamStatus
from pipeline.metrics.frame_times import FrameTimes
from pipeline.publish.messages import SCHEMA_VERSION, DetectionsMessage, StatusMessage
from pipeline.publish.publisher import Publisher
from pipeline.publish.tracing import NoTracing, Tracing
from pipeline.timeline.timeline import Timeline, Track
from pipeline.track.track_step import TrackedFrame, TrackStep

_TICK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Outlet:
    """What one stream's results pass on their way out."""

    meter: StreamMeter
    deadline: Deadline | None = None
    """Frames that miss it are dropped instead of published."""


class Outlets(Protocol):
    """The streams, as their results see them."""

    def outlet(self, stream_id: str) -> Outlet:
        """Return what a stream's results pass on their way out."""

    def departing(self) -> Sequence[str]:
        """Return the streams that were removed and have nothing in flight any more."""

    def forget(self, stream_id: str) -> None:
        """Let such a stream go."""


class PublishStep:
    """The last stage: ``deliver`` sends results out as they come, ``run`` keeps time beside it."""

    def __init__(
        self,
        publisher: Publisher,
        outlets: Outlets,
        track: TrackStep,
        busy: BusyClock,
        time_to_publish: TimeToPublish,
        *,
        status: Callable[[], Sequence[StreamStatus]],
        times: FrameTimes,
        status_interval_seconds: float,
        on_published: Callable[[Frame, DetectionsMessage], None] = lambda frame, message: None,
        tracing: Tracing | None = None,
        timeline: Timeline | None = None,
        on_tick: Callable[[float], None] = lambda now: None,
    ) -> None:
        """``on_published`` is told of every frame that left, and must not wait.

        ``on_tick`` hears the monotonic clock ten times a second.
        """
        self._on_tick = on_tick
        self._on_published = on_published
        self._tracing = tracing or NoTracing()
        self._tracks = None if timeline is None else (timeline.track("track"), timeline.track("publish"))
        self._publisher = publisher
        self._outlets = outlets
        self._track = track
        self._busy = busy
        self._time_to_publish = time_to_publish
        self.ticked_at: float | None = None
        """Monotonic seconds when ``run`` last came round; None while it does not run."""
        self._status = status
        self._times = times
        self._status_interval_seconds = status_interval_seconds
        self._next_status = 0.0
        self._publishing = threading.Lock()

    def run(self, finished: Callable[[float], bool]) -> None:
        """Send statuses and serve late joiners until ``finished(seconds to wait)``, then a last status of every stream.

        Sinks are closed at the end.
        """
        try:
            while True:
                self._tick()
                if finished(_TICK_SECONDS):
                    break
            self._let_go()
            self._publish_status()
        finally:
            self.ticked_at = None
            with self._publishing:
                self._publisher.close()

    def deliver(self, batch: Batch) -> None:
        """Track and publish one batch, called in the order of tickets: every frame of it leaves, or is dropped."""
        started = monotonic()
        for failed in batch.failed:
            meter = self._outlets.outlet(failed.frame.stream_id).meter
            meter.dropped("infer", failed.stage, "failed", monotonic())
        results = batch.results()
        for stream_id, frames in count_by_stream(result.frame for result in results).items():
            self._outlets.outlet(stream_id).meter.ledger.move("infer", "publish", frames)
        tracked_frames = self._track(results)
        if batch.frames:  # before they are published: a deadline that gives way asks for it
            now = monotonic()
            self._time_to_publish.report(now - batch.taken_at, now)
        with self._publishing, profiled_range("track, publish"):
            for tracked in tracked_frames if self._tracks is None else _shown(tracked_frames, self._tracks[0]):
                self._publish_frame(tracked)
            self._publisher.flush()
        self._busy.add(started, monotonic())

    def _publish_frame(self, tracked: TrackedFrame) -> None:
        inferred, frame = tracked.inferred, tracked.inferred.frame
        outlet = self._outlets.outlet(frame.stream_id)
        meter = outlet.meter
        now = monotonic()
        deadline = outlet.deadline
        if deadline is not None and deadline.is_missed(frame, now, self._time_to_publish.expected(now)):
            meter.dropped("publish", "publish", "deadline", now)
            return
        service = (
            frame.decode_seconds
            + inferred.preprocess_seconds
            + inferred.infer_seconds
            + inferred.postprocess_seconds
            + tracked.seconds
        )
        wait = max(0.0, now - frame.received_at - service)
        message = self._publisher.publish(
            inferred,
            wait_seconds=wait,
            track_seconds=tracked.seconds,
            tracks=tracked.tracks,
            now=now,
            traceparent=self._tracing.frame(tracked, now),
        )
        self._on_published(frame, message)
        meter.published(
            now,
            age_seconds=now - frame.captured_at,
            wait_seconds=wait,
            service_seconds=service,
            capture_clock=frame.capture_clock,
            carried=inferred.carried,
            input_size=inferred.input_size,
        )
        published = monotonic()
        if self._tracks is not None:
            self._tracks[1].span("publish", now, published, (frame,), "f")
        self._times.record(
            inferred,
            age_seconds=now - frame.captured_at,
            wait_seconds=wait,
            track_seconds=tracked.seconds or None,
            publish_seconds=published - now,
        )

    def _tick(self) -> None:
        now = self.ticked_at = monotonic()
        self._let_go()
        self._on_tick(now)
        if now >= self._next_status:
            self._next_status = now + self._status_interval_seconds
            self._publish_status()
        with self._publishing:
            self._publisher.tick()

    def _let_go(self) -> None:
        """Send the last status of every stream that was removed, once its last frame has left."""
        departing = self._outlets.departing()
        if not departing:
            return
        messages = [status_message(status) for status in self._status() if status.stream_id in departing]
        with self._publishing:
            for message in messages:
                self._publisher.publish_status(message)
            for stream_id in departing:
                self._outlets.forget(stream_id)

    def _publish_status(self) -> None:
        messages = [status_message(status) for status in self._status()]
        with self._publishing:
            for message in messages:
                self._publisher.publish_status(message)


def _shown(frames: Iterator[TrackedFrame], track: Track) -> Iterator[TrackedFrame]:
    """Yield ``frames``, and show on ``track`` what they took: those tracked together with the first of them."""
    while True:
        begun = monotonic()
        tracked = next(frames, None)
        if tracked is None:
            return
        track.span("track", begun, monotonic(), (tracked.inferred.frame,))
        yield tracked


def status_message(status: StreamStatus) -> StatusMessage:
    """Return what subscribers get of a stream's status; the publisher numbers and stamps it."""
    return StatusMessage(
        schema_version=SCHEMA_VERSION,
        publisher="",
        stream_id=status.stream_id,
        epoch=0,
        sequence=0,
        published_utc=0.0,
        verdict=status.verdict,
        cause=status.cause,
        state=status.state,
        received=status.ledger.received,
        published=status.ledger.published,
        in_flight=status.ledger.in_flight_total,
        dropped=status.ledger.dropped,
        cadence_fps=status.cadence_fps,
        published_fps=status.published_fps,
        age_seconds=status.age_seconds,
        wait_seconds_p95=status.wait_seconds_p95,
        service_seconds_p95=status.service_seconds_p95,
        capture_clock=status.capture_clock,
        reconnects=status.reconnects,
        last_error=status.last_error,
        headroom_streams=status.headroom_streams,
        published_share=status.published_share,
        inferred_every=status.inferred_every,
        input_size=status.input_size,
    )
