"""Reads a video file through PyAV."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import av.error

from pipeline.errors import Cause, CutOffError, SourceError
from pipeline.frame import Packet, StreamInfo
from pipeline.source.address import Address
from pipeline.source.av_errors import cause_of, reason
from pipeline.source.av_streams import choose_video, describe
from pipeline.source.pace import Pace, packet_read_now
from pipeline.source.source import SourceOptions

# Demuxers that hold pictures. Playlists (concat, hls, dash, sdp, image2, ...) are left out on purpose: a text file
# must not make FFmpeg open another one.
_DEMUXERS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,h264,hevc,vvc,av1,obu,ivf,m4v,mjpeg,flv,asf,ogg,mxf,nut,dv,gif,"
    "h263,h261,cavsvideo,yuv4mpegpipe,swf,rm,wtv,vc1,dirac"
)
_CONTAINER_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": _DEMUXERS,
    # A movie file may point at other files for its media.
    "enable_drefs": "0",
    "use_absolute_path": "0",
    # Applies while FFmpeg decodes the first pictures to learn the stream's parameters.
    "max_pixels": str(1 << 27),
}


class FileSource:
    """One video track of a file. ``options.realtime`` delivers it at the pace of its timestamps."""

    def __init__(self, address: Address, options: SourceOptions, stopping: threading.Event) -> None:
        self._address = address
        self._options = options
        self._stopping = stopping
        self._container: Any = None
        self._packets: Iterator[Any] | None = None
        self._stream: Any = None
        self._taken = 0
        self._seconds_per_tick = 0.0
        self._pace: Pace | None = None

    def open(self) -> StreamInfo:
        """Open the file. Raises SourceError with the cause that decides how it is retried."""
        self._check_regular_file()
        failure: SourceError
        try:
            # "file:" keeps FFmpeg from reading a name such as "concat:x" as a protocol.
            self._container = av.open("file:" + self._address.location, mode="r", options=dict(_CONTAINER_OPTIONS))
        except (av.error.FFmpegError, ValueError, OSError) as error:
            failure = self._open_failure(error)
        else:
            return self._start()
        raise failure

    def read(self) -> Packet | None:
        """Return the next coded picture of the chosen video track; None at the end of the file."""
        if self._packets is None or self._stopping.is_set():
            return None
        try:
            for coded in self._packets:
                if coded.size:
                    self._taken += 1
                    return self._packet(coded)
                # Empty packets are PyAV's own end mark.
        except av.error.FFmpegError as error:
            failure = SourceError(
                f"{self._address.redacted}: reading failed ({reason(error)}). The file is damaged or cut off here.",
                cause=Cause.CORRUPT if isinstance(error, av.error.InvalidDataError) else cause_of(error),
            )
        else:
            listed = self._pictures_listed()
            if self._taken >= listed:
                return None
            failure = CutOffError(
                f"{self._address.redacted}: it ends after {self._taken} of {listed} pictures: it is cut off, as by a "
                "copy that did not end. What there is was taken."
            )
        raise failure

    def close(self) -> None:
        """Close the file. Closing twice is safe."""
        self._packets = self._stream = None
        if self._container is not None:
            self._container.close()
            self._container = None

    def _packet(self, coded: Any) -> Packet | None:
        pts = coded.pts
        pts_seconds = None if pts is None else pts * self._seconds_per_tick
        if self._pace is None:
            return packet_read_now(coded, pts_seconds)
        dts = coded.dts
        due = self._pace.wait(pts_seconds if dts is None else dts * self._seconds_per_tick)
        return None if due is None else packet_read_now(coded, pts_seconds, due)

    def _pictures_listed(self) -> int:
        """Return how many pictures a movie's index lists, without those that its edit list leaves out; else 0."""
        if "mp4" not in self._container.format.name.split(","):
            return 0
        return sum(1 for entry in self._stream.index_entries if entry.size)

    def _start(self) -> StreamInfo:
        try:
            stream = choose_video(self._container, self._options.video_track, self._address.redacted)
        except SourceError:
            self.close()
            raise
        info = describe(stream, live=self._options.realtime)
        self._seconds_per_tick = float(stream.time_base)
        self._packets = iter(self._container.demux(stream))
        self._stream, self._taken = stream, 0
        self._pace = Pace(info.declared_fps, self._stopping) if self._options.realtime else None
        return info

    def _check_regular_file(self) -> None:
        path, shown = Path(self._address.location), self._address.redacted
        try:
            exists, regular = path.exists(), path.is_file()
        except OSError as error:
            raise SourceError(f"{shown}: cannot be opened ({reason(error)}).", cause=cause_of(error)) from None
        if not exists:
            raise SourceError(f"{shown}: no such file. Check the path.", cause=Cause.NOT_FOUND)
        if not regular:
            # Opening a pipe or a device could wait for ever.
            raise SourceError(
                f"{shown}: not a regular file. Name a video file, or images:FOLDER for pictures.",
                cause=Cause.UNSUPPORTED,
            )

    def _open_failure(self, error: BaseException) -> SourceError:
        shown, cause = self._address.redacted, cause_of(error)
        if cause in (Cause.NOT_FOUND, Cause.UNAUTHORISED):
            return SourceError(f"{shown}: cannot be opened ({reason(error)}). Check path and permissions.", cause=cause)
        return SourceError(
            f"{shown}: not a video file that can be read ({reason(error)}). "
            "Allowed: video containers and raw streams (mp4, mkv, avi, ts, h264, ...); no playlists.",
            cause=Cause.UNSUPPORTED,
        )
