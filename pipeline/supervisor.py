"""Keeps one stream connected: opens it, plays it, and plays it again as ``KeepTrying`` decides."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from engines.cores import roam
from pipeline.bounded_queue import BoundedQueue
from pipeline.capture import Capture, StreamContext
from pipeline.clock import monotonic
from pipeline.decode.decoder import Decoder, open_decoder
from pipeline.decode.gpu_first import GpuFirst
from pipeline.decode.nvdec import Nvdec
from pipeline.errors import Cause, CutOffError, SourceError
from pipeline.frame import Frame, StreamInfo
from pipeline.infer.outlook import Outlook
from pipeline.keep_trying import KeepTrying
from pipeline.keepup.load import BusyClock
from pipeline.keepup.meter import StreamMeter
from pipeline.plan import StreamPlan
from pipeline.source.source import Source, open_source
from pipeline.stage import StageThread
from pipeline.thinning import Thinning
from pipeline.timeline.timeline import Track

_LIVE_LONG_ENOUGH_SECONDS = 10.0
"""A connection that held this long starts the ladder anew; a shorter one is flapping."""

Wish = Literal["play", "pause", "stop"]


@dataclass(slots=True)
class History:
    """What one stream's name stands for so far: subscribers tell old from new by it."""

    epoch: int = 0
    """Of the latest connection."""
    frame_indices: Iterator[int] = field(default_factory=itertools.count)
    """Counts the frames over all epochs."""


class StreamSupervisor(StageThread):
    """One thread a stream. Nothing that happens to this stream reaches another one."""

    def __init__(
        self,
        plan: StreamPlan,
        queue: BoundedQueue[Frame],
        meter: StreamMeter,
        busy: BusyClock,
        *,
        on_failure: Callable[[BaseException], None],
        history: History | None = None,
        outlook: Outlook | None = None,
        nvdec: Nvdec | None = None,
        track: Track | None = None,
    ) -> None:
        """``history``: what a stream of that name left behind; epochs and frame numbers go on from there.
        ``outlook``: what the batcher tells of ``queue``.

        ``nvdec`` decodes on the GPU what it takes; None decodes in software. ``track``: the decoder's on the timeline.
        """
        super().__init__(f"source-{plan.stream_id}", self._supervise, on_failure=on_failure)
        self.plan = plan
        self.queue = queue
        self.busy = busy
        self.meter = meter
        self.history = history or History()
        self.thinning = Thinning(plan.max_fps, plan.every)
        self._context = StreamContext(
            plan.stream_id,
            queue,
            meter,
            busy,
            plan.limits,
            self.thinning,
            outlook or Outlook(),
            frame_indices=self.history.frame_indices,
            track=track,
        )
        self._stopping = self._context.stopping  # ends the present connection, whatever comes after it
        self._wish: Wish = "play"
        self._wished = threading.Condition()
        self._plays = 0
        self._log = logging.getLogger(f"onpace.source.{plan.stream_id}")
        self._gpu_first = None if nvdec is None else GpuFirst(nvdec, self._log)
        self._trying = KeepTrying(plan, self._stopping, self._log, self._waiting)

    @property
    def failed(self) -> SourceError | None:
        """Why the stream was given up; None while it runs and after a proper end."""
        return self._trying.failed

    @property
    def paused(self) -> bool:
        """Whether it was asked to pause."""
        return self._wish == "pause"

    def stop(self) -> None:
        """Ask the stream to end; frames already queued stay."""
        self._ask("stop")

    def pause(self) -> None:
        """Ask the stream to leave its source until it is resumed; frames already queued stay."""
        self._ask("pause")

    def resume(self) -> None:
        """End a pause: the source is opened anew, in a new epoch. Without a pause nothing happens."""
        if self.paused:
            self._ask("play")

    def restart(self) -> None:
        """Open the source anew, in a new epoch; ends a pause, too."""
        self._ask("play")

    def _ask(self, wish: Wish) -> None:
        with self._wished:
            if self._wish != "stop":
                self._wish = wish
                self._stopping.set()
                self._wished.notify_all()

    def _goes_on(self) -> bool:
        """Wait while paused. Return whether there is anything to play."""
        with self._wished:
            if self._wish == "pause":
                self.meter.connection("paused", monotonic())
                self._log.info("paused")
                self._wished.wait_for(lambda: self._wish != "pause")
            if self._wish == "stop":
                return False
            if self._plays:  # it was asked for: what comes now is no reconnection
                self.meter.connection("paused", monotonic())
            self._stopping.clear()
            return True

    def _supervise(self) -> None:
        try:
            while self._goes_on():
                self._plays = 0
                self._trying.run(self._play)
                if not self._stopping.is_set():
                    break  # it ended by itself, or was given up
        finally:
            error_text = str(self.failed) if self.failed else ""
            cause = self.failed.cause if self.failed else None
            self.meter.connection("ended", monotonic(), cause=cause, error=error_text)
            # Last: the final status goes out as soon as nothing more can come, and must find the stream ended.
            self._context.queue.close()

    def _play(self) -> None:
        """One connection, from opening to its end. Raises SourceError."""
        if not (self.plan.loop and self._plays):  # a file that begins again was never away
            self.meter.connection("connecting", monotonic())
        source = open_source(self.plan.url, self.plan.options, self._stopping)
        try:
            info = source.open()
            self._check_size(info)
            self._plays += 1
            self.history.epoch += 1
            decoder = self._open_decoder(info)
            try:
                self._capture(info, source, decoder)
            finally:
                decoder.close()
        finally:
            source.close()
        if self.plan.endless and not self._stopping.is_set():
            raise SourceError("the camera ended the stream", cause=Cause.ENDED)

    def _open_decoder(self, info: StreamInfo) -> Decoder:
        def software() -> Decoder:
            return open_decoder(info, self.plan.decode_threads, self.plan.limits.max_pixels)

        if self._gpu_first is None or info.decoder != "pyav":
            roam()  # it decodes beside Python's lock
            return software()
        return self._gpu_first.open(info, software)

    def _capture(self, info: StreamInfo, source: Source, decoder: Decoder) -> None:
        opened_at = monotonic()

        def first_picture() -> None:
            self._trying.delivering()
            self.meter.connection("live", monotonic())
            again = self.plan.loop and self._plays > 1  # a short file begins again many times a second
            level = logging.DEBUG if again else logging.INFO
            self._log.log(level, "live: %s %s, epoch %d", info.codec, info.size, self.history.epoch)

        capture = Capture(self._context, self.history.epoch, info, source, decoder, first_picture)
        try:
            try:
                capture.play()
            except CutOffError as error:
                if not self.plan.loop:
                    raise
                if self._plays == 1:
                    self._log.warning("%s It is repeated all the same.", error)
            if self.plan.loop and not capture.pictures and not self._stopping.is_set():
                raise SourceError("there is no picture in it, and so nothing to repeat", cause=Cause.CORRUPT)
        finally:
            if capture.pictures and monotonic() - opened_at > _LIVE_LONG_ENOUGH_SECONDS:
                self._trying.held()

    def _waiting(self, error: SourceError) -> None:
        self.meter.connection("waiting", monotonic(), cause=error.cause, error=str(error))

    def _check_size(self, info: StreamInfo) -> None:
        if info.size.width * info.size.height > self.plan.limits.max_pixels:
            raise SourceError(
                f"the stream is {info.size}, more pixels than decode.max_pixels allows "
                f"({self.plan.limits.max_pixels}). Raise it, or choose a smaller stream of the camera.",
                cause=Cause.UNSUPPORTED,
            )
