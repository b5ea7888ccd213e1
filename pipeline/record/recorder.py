"""Records one stream: keeps it connected as ``run`` does, and writes its packets instead of decoding them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from av.bitstream import BitStreamFilterContext

from pipeline.clock import monotonic, utc
from pipeline.errors import Cause, SourceError
from pipeline.frame import StreamInfo
from pipeline.keep_trying import KeepTrying
from pipeline.plan import StreamPlan
from pipeline.record.segment import Segment
from pipeline.record.times import FORMAT, VIDEO_SUFFIX, SegmentHeader
from pipeline.source.address import parse_address
from pipeline.source.source import Source, open_source
from pipeline.stage import StageThread

_LIVE_LONG_ENOUGH_SECONDS = 10.0
_PARAMETER_SETS = frozenset({"h264", "hevc", "vvc"})
"""Codecs whose pictures cannot be decoded without what some cameras say only while connecting."""


@dataclass(frozen=True, slots=True)
class SegmentLimits:
    """When a new file is begun, at the next keyframe."""

    seconds: float
    bytes: int


class StreamRecorder(StageThread):
    """One thread a stream. Nothing that happens to this stream reaches another one."""

    def __init__(
        self, plan: StreamPlan, folder: Path, limits: SegmentLimits, *, on_failure: Callable[[BaseException], None]
    ) -> None:
        """``folder`` takes the stream's files; it must exist."""
        super().__init__(f"record-{plan.stream_id}", self._record, on_failure=on_failure)
        self.plan = plan
        self.folder = folder
        self.packets = self.bytes = self.connections = self.segments = 0
        self.skipped = 0
        """Packets before the first keyframe of a connection: nothing can be decoded from them."""
        self.last_error = ""
        """Why the stream is not delivering, redacted; empty while it is."""
        self.seconds = 0.0
        """From the first packet to the last."""
        self._limits = limits
        self._stopping = threading.Event()
        self._log = logging.getLogger(f"onpace.record.{plan.stream_id}")
        self._trying = KeepTrying(plan, self._stopping, self._log, self._waiting)
        self._zero: float | None = None
        self._zero_utc = 0.0
        self._run_id = ""

    @property
    def failed(self) -> SourceError | None:
        """Why the stream was given up; None while it runs and after a proper end."""
        return self._trying.failed

    def stop(self) -> None:
        """Ask it to end; what has arrived is written."""
        self._stopping.set()

    def _record(self) -> None:
        self._trying.run(self._play)
        if self.failed is not None:
            self.last_error = str(self.failed)

    def _waiting(self, error: SourceError) -> None:
        self.last_error = str(error)

    def _play(self) -> None:
        """One connection, from opening to its end. Raises SourceError."""
        source = open_source(self.plan.url, self.plan.options, self._stopping)
        opened_at = monotonic()
        try:
            info = source.open()
            if info.decoder != "pyav":
                shown = parse_address(self.plan.url).redacted
                raise SourceError(
                    f"{shown}: has no coded packets to keep. Record a camera or a file.",
                    cause=Cause.UNSUPPORTED,
                )
            self.connections += 1
            before = self.packets
            try:
                self._write(source, info)
            finally:
                if self.packets > before and monotonic() - opened_at > _LIVE_LONG_ENOUGH_SECONDS:
                    self._trying.held()
        finally:
            source.close()
        if self.plan.endless and not self._stopping.is_set():
            raise SourceError("the camera ended the stream", cause=Cause.ENDED)

    def _write(self, source: Source, info: StreamInfo) -> None:
        whole = _self_contained(info)
        ticks = info.template.time_base
        segment: Segment | None = None
        try:
            while (packet := source.read()) is not None:
                if segment is None and not packet.payload.is_keyframe:
                    self.skipped += 1
                    continue
                arrived = self._since_zero(packet.received_at)
                if segment is None:
                    self._trying.delivering()
                    self.last_error = ""
                    self._log.info("recording: %s %s, connection %d", info.codec, info.size, self.connections)
                elif packet.payload.is_keyframe and self._is_full(segment, arrived):
                    segment.close()
                    segment = None
                if segment is None:
                    segment = self._begin(info, ticks, arrived)
                size = 0
                for coded in whole(packet.payload):
                    size += coded.size
                    segment.write(packet, coded, arrived)
                self.packets += 1
                self.bytes += size
                self.seconds = arrived
        finally:
            if segment is not None:
                segment.close()

    def _is_full(self, segment: Segment, arrived: float) -> bool:
        return segment.seconds(arrived) >= self._limits.seconds or segment.bytes >= self._limits.bytes

    def _begin(self, info: StreamInfo, ticks: Any, arrived: float) -> Segment:
        self.segments += 1
        header = SegmentHeader(
            format=FORMAT,
            run=self._run_id,
            stream_id=self.plan.stream_id,
            source=parse_address(self.plan.url).redacted,
            connection=self.connections,
            codec=info.codec,
            width=info.size.width,
            height=info.size.height,
            fps=info.declared_fps,
            ticks=(ticks.numerator, ticks.denominator),
            started_utc=round(self._zero_utc, 3),
        )
        video = self.folder / f"{self._run_id}-{self.segments:06d}{VIDEO_SUFFIX}"
        try:
            return Segment(video, info.template, header, arrived)
        except ValueError as error:
            raise SourceError(
                f"{header.source}: {info.codec} cannot be kept ({error}).", cause=Cause.UNSUPPORTED
            ) from None

    def _since_zero(self, received_at: float) -> float:
        if self._zero is None:
            self._zero, self._zero_utc = received_at, utc()
            # Sorts by time; the fraction keeps two runs of one second apart.
            stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(self._zero_utc))
            self._run_id = f"{stamp}.{int(self._zero_utc % 1 * 1000):03d}Z"
        return received_at - self._zero


def _self_contained(info: StreamInfo) -> Callable[[Any], Iterator[Any]]:
    """Return what makes keyframes carry what is needed to decode them, so that files can follow each other."""
    extradata = info.template.codec_context.extradata
    in_start_codes = extradata is not None and bytes(extradata[:3]) in (b"\0\0\1", b"\0\0\0")
    if info.codec not in _PARAMETER_SETS or not in_start_codes:
        return lambda coded: iter((coded,))
    added = BitStreamFilterContext("dump_extra", in_stream=info.template)
    return lambda coded: iter(added.filter(coded))
