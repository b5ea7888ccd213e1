"""Plays what ``onpace record`` kept: the same packets, with the times at which they came."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error

from pipeline.clock import monotonic, utc
from pipeline.errors import Cause, SourceError
from pipeline.frame import Packet, StreamInfo
from pipeline.record.time_line import TimeLine
from pipeline.record.times import FORMAT, VIDEO_SUFFIX, PacketTimes, SegmentHeader, read_times, segments_in, times_path
from pipeline.source.address import Address
from pipeline.source.av_errors import cause_of, reason
from pipeline.source.av_streams import choose_video, describe
from pipeline.source.source import SourceOptions

_CONTAINER_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": "matroska", "max_pixels": str(1 << 27)}
_log = logging.getLogger("onpace.source.recording")


_Opened = tuple[SegmentHeader, Any, Iterator[PacketTimes]]
"""A segment's header, its PyAV stream, and its packets' times."""


@dataclass(frozen=True, slots=True)
class _Template:
    """What the decoder takes of a PyAV stream, with the camera's ticks instead of the file's milliseconds."""

    codec_context: Any
    time_base: Fraction


class RecordingSource:
    """One stream's recording: a folder of segments, or one of them.

    With ``options.realtime`` packets come at their original distances; otherwise as fast as they are read. Either way a
    packet's capture lies as long before its arrival as it did, by the same clock. Segments of several connections or
    runs play as one: silence between connections of a run lasts as long as it did.
    """

    def __init__(self, address: Address, options: SourceOptions, stopping: threading.Event) -> None:
        self._address = address
        self._options = options
        self._stopping = stopping
        self._packets: Iterator[tuple[Any, PacketTimes, float]] | None = None
        self._containers: list[Any] = []
        self._ticks = Fraction(1, 1000)
        self._zero: float | None = None

    def open(self) -> StreamInfo:
        """Open the first segment that can be played. Raises SourceError with the cause."""
        segments = iter(self._segments())
        for video in segments:
            opened = self._open_segment(video)
            if opened is None:
                continue
            header, stream, _ = opened
            self._ticks = Fraction(*header.ticks)
            info = describe(stream, live=self._options.realtime)
            self._packets = self._play(opened, segments)
            return replace(info, declared_fps=header.fps, template=_Template(stream.codec_context, self._ticks))
        raise SourceError(f"{self._address.redacted}: nothing in it can be played.", cause=Cause.CORRUPT)

    def read(self) -> Packet | None:
        """Return the next packet, when it is due; None at the end."""
        if self._packets is None or self._stopping.is_set():
            return None
        found = next(self._packets, None)
        if found is None:
            return None
        coded, times, arrived = found
        if self._options.realtime:
            due = self._wait(arrived)
            if due is None:
                return None
            received_at, captured_at = monotonic(), due - times.age
        else:
            received_at = monotonic()
            captured_at = received_at - times.age
        return Packet(
            payload=coded,
            pts_seconds=None if coded.pts is None else float(coded.pts * self._ticks),
            received_at=received_at,
            captured_at=captured_at,
            capture_utc=utc() - (received_at - captured_at),
            capture_clock=times.clock,
        )

    def close(self) -> None:
        """Close the files. Closing twice is safe."""
        self._packets = None
        containers, self._containers = self._containers, []
        for container in containers:
            container.close()

    def _wait(self, arrived: float) -> float | None:
        """Return, once it is due, when the packet is due (monotonic seconds); None when stopping.

        The schedule never slips: a consumer that was late gets what is due at once, as from a camera's socket.
        """
        if self._zero is None:
            self._zero = monotonic() - arrived
        due = self._zero + arrived
        while (remaining := due - monotonic()) > 0:
            if self._stopping.wait(remaining):
                return None
        return None if self._stopping.is_set() else due

    def _play(self, first: _Opened, others: Iterator[Path]) -> Iterator[tuple[Any, PacketTimes, float]]:
        """Yield packets with the camera's own time stamps, their times, and their arrival on one time line."""
        line = TimeLine(self._ticks)
        opened: _Opened | None = first
        codec = first[0].codec
        while opened is not None:
            header, stream, times = opened
            if header.codec != codec:
                raise SourceError(
                    f"{self._address.redacted}: goes on in {header.codec} after {codec}. Play its files one by one.",
                    cause=Cause.UNSUPPORTED,
                )
            line.begin(header)
            for coded, moment in _matched(stream, times):
                yield coded, moment, line.place(coded, moment)
            opened = next(filter(None, map(self._open_segment, others)), None)

    def _segments(self) -> list[Path]:
        path, shown = Path(self._address.location), self._address.redacted
        try:
            if path.is_dir():
                found = segments_in(path)
                if found:
                    return found
                streams = sorted(folder.name for folder in path.iterdir() if folder.is_dir() and segments_in(folder))
                if len(streams) == 1:
                    return segments_in(path / streams[0])
                what = (
                    f"holds several streams ({', '.join(streams[:8])}): name one" if streams else "holds no recording"
                )
                raise SourceError(f"{shown}: {what}. `onpace record` makes recordings.", cause=Cause.NOT_FOUND)
            if not path.exists():
                raise SourceError(f"{shown}: no such recording. Check the path.", cause=Cause.NOT_FOUND)
            if not path.name.endswith(VIDEO_SUFFIX) or not times_path(path).is_file():
                raise SourceError(
                    f"{shown}: no recording: a .mkv file with its .times.jsonl beside it. Play other files as files.",
                    cause=Cause.UNSUPPORTED,
                )
            return [path]
        except OSError as error:
            raise SourceError(f"{shown}: cannot be read ({reason(error)}).", cause=cause_of(error)) from None

    def _open_segment(self, video: Path) -> _Opened | None:
        """Return what a segment holds; None, and a warning, for one that was cut off before its first picture."""
        try:
            header, times = read_times(video)
            if header is not None and header.format <= FORMAT:
                container = av.open(f"file:{video}", "r", options=dict(_CONTAINER_OPTIONS))
                if len(self._containers) == 2:  # the first one's decoder takes what comes from all
                    self._containers.pop().close()
                self._containers.append(container)
                return header, choose_video(container, 0, video.name), times
        except (av.error.FFmpegError, ValueError, OSError, SourceError) as error:
            _log.warning("%s: cannot be played (%s)", video.name, reason(error))
        else:
            _log.warning("%s: its times cannot be read", video.name)
        return None


def _matched(stream: Any, times: Iterator[PacketTimes]) -> Iterator[tuple[Any, PacketTimes]]:
    """Yield each packet of the video file with its line of the side file, until either ends."""
    moment = next(times, None)
    try:
        for coded in stream.container.demux(stream):
            if not coded.size or coded.pts is None:
                continue
            while moment is not None and moment.ms < coded.pts:
                moment = next(times, None)
            if moment is None:
                return
            if moment.ms == coded.pts:
                yield coded, moment
    except av.error.FFmpegError:
        return  # cut off in the middle of a packet
