"""Keeps one stream connected: opens it, plays it, and decides by cause whether and when to try again."""

from __future__ import annotations

import logging
from collections.abc import Callable

from pipeline.bounded_queue import BoundedQueue
from pipeline.capture import Capture, StreamContext
from pipeline.clock import monotonic
from pipeline.decode.decoder import Decoder, open_decoder
from pipeline.errors import Cause, SourceError
from pipeline.frame import Frame, StreamInfo
from pipeline.keepup.load import BusyClock
from pipeline.keepup.meter import StreamMeter
from pipeline.plan import StreamPlan
from pipeline.retry import Backoff
from pipeline.source.source import Source, open_source
from pipeline.stage import StageThread

_LIVE_LONG_ENOUGH_SECONDS = 10.0
"""A connection that held this long starts the ladder anew; a shorter one is flapping."""


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
    ) -> None:
        super().__init__(f"source-{plan.stream_id}", self._supervise, on_failure=on_failure)
        self.plan = plan
        self.queue = queue
        self.busy = busy
        self.meter = meter
        self._context = StreamContext(plan.stream_id, queue, meter, busy, plan.limits)
        self._stopping = self._context.stopping
        self.failed: SourceError | None = None
        """Why the stream was given up; None while it runs and after a proper end."""
        self._epoch = 0
        self._told = ""  # the failure that was logged last: the same one again is not news
        self._backoff = Backoff(plan.reconnect_max_wait_seconds)
        self._log = logging.getLogger(f"onpace.source.{plan.stream_id}")

    def stop(self) -> None:
        """Ask the stream to end; frames already queued stay."""
        self._stopping.set()

    def _supervise(self) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    self._play()
                    if not self.plan.loop:
                        break
                except SourceError as error:
                    if not self._retry_after(error):
                        break
                except Exception as error:  # a fault of this stream's own must stay its own
                    self._log.exception("failed unexpectedly")
                    if not self._retry_after(SourceError(f"{type(error).__name__}: {error}", cause=Cause.FAILED)):
                        break
        finally:
            self._context.queue.close()
            error_text = str(self.failed) if self.failed else ""
            cause = self.failed.cause if self.failed else None
            self.meter.connection("ended", monotonic(), cause=cause, error=error_text)

    def _play(self) -> None:
        """One connection, from opening to its end. Raises SourceError."""
        if not (self.plan.loop and self._epoch):  # a file that begins again was never away
            self.meter.connection("connecting", monotonic())
        source = open_source(self.plan.url, self.plan.options, self._stopping)
        try:
            info = source.open()
            self._check_size(info)
            self._epoch += 1
            decoder = open_decoder(info, self.plan.decode_threads, self.plan.limits.max_pixels)
            try:
                self._capture(info, source, decoder)
            finally:
                decoder.close()
        finally:
            source.close()
        if self.plan.endless and not self._stopping.is_set():
            raise SourceError("the camera ended the stream", cause=Cause.ENDED)

    def _capture(self, info: StreamInfo, source: Source, decoder: Decoder) -> None:
        opened_at = monotonic()

        def first_picture() -> None:
            self._told = ""
            self.meter.connection("live", monotonic())
            self._log.info("live: %s %s, epoch %d", info.codec, info.size, self._epoch)

        capture = Capture(self._context, self._epoch, info, source, decoder, first_picture)
        try:
            capture.play()
            if self.plan.loop and not capture.pictures and not self._stopping.is_set():
                raise SourceError("there is no picture in it, and so nothing to repeat", cause=Cause.CORRUPT)
        finally:
            if capture.pictures and monotonic() - opened_at > _LIVE_LONG_ENOUGH_SECONDS:
                self._backoff.reset()

    def _retry_after(self, error: SourceError) -> bool:
        """Wait as the cause asks; return False when the stream is given up or stopping."""
        if self._stopping.is_set():
            return False
        if not (self.plan.endless and self.plan.reconnect):
            self.failed = error
            self._log.error("%s: %s", error.cause.value, error)
            return False
        wait_seconds = self._backoff.wait_seconds(error.cause)
        self.meter.connection("waiting", monotonic(), cause=error.cause, error=str(error))
        level = logging.WARNING if self._told != str(error) else logging.DEBUG
        self._told = str(error)
        self._log.log(level, "%s: %s Trying again, next in %.1f s.", error.cause.value, _sentence(error), wait_seconds)
        return not self._stopping.wait(wait_seconds)

    def _check_size(self, info: StreamInfo) -> None:
        if info.size.width * info.size.height > self.plan.limits.max_pixels:
            raise SourceError(
                f"the stream is {info.size}, more pixels than decode.max_pixels allows "
                f"({self.plan.limits.max_pixels}). Raise it, or choose a smaller stream of the camera.",
                cause=Cause.UNSUPPORTED,
            )


def _sentence(error: SourceError) -> str:
    text = str(error)
    return text if text.endswith(".") else f"{text}."
