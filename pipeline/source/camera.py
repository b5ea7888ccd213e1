"""Reads a camera of this machine (USB, V4L2) through FFmpeg's v4l2 device."""

from __future__ import annotations

import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import av.error

from pipeline.clock import monotonic, utc
from pipeline.errors import Cause, SourceError
from pipeline.frame import Packet, StreamInfo
from pipeline.source.address import Address
from pipeline.source.av_errors import cause_of, reason
from pipeline.source.av_streams import choose_video, describe
from pipeline.source.source import SourceOptions

# AVFMT_FLAG_NONBLOCK. A read that waits inside the driver can be ended by nothing, not even by PyAV's timeout.
_NON_BLOCKING = "+4"
_LOOK_AGAIN_SECONDS = 0.004

_REMEDIES = {
    Cause.NOT_FOUND: "Plug it in",
    Cause.BUSY: "Close the program that uses the camera",
    Cause.UNAUTHORISED: "Add the user to the group 'video' (sudo usermod -aG video USER) and log in again",
}


class CameraSource:
    """One V4L2 device, with the size, rate and format that the address asks for, or the device's own."""

    def __init__(self, address: Address, options: SourceOptions, stopping: threading.Event) -> None:
        self._address = address
        self._options = options
        self._stopping = stopping
        self._container: Any = None
        self._stream: Any = None
        self._packets: Iterator[Any] | None = None
        self._seconds_per_tick = 0.0
        self._last_picture_at = 0.0

    def open(self) -> StreamInfo:
        """Open the device. Raises SourceError with the cause that decides how it is retried."""
        self._check_device()
        failure: SourceError
        try:
            self._container = av.open(
                self._address.location,
                mode="r",
                format="v4l2",
                options=self._av_options(),
                timeout=(self._options.open_timeout_seconds, self._options.read_timeout_seconds),
            )
        except (av.error.FFmpegError, ValueError, OSError) as error:
            failure = self._open_failure(error)
        else:
            return self._start()
        raise failure

    def read(self) -> Packet | None:
        """Return the next picture. Raises SourceError when the camera falls silent or is unplugged."""
        while self._container is not None and not self._stopping.is_set():
            if self._packets is None:
                self._packets = iter(self._container.demux(self._stream))
            try:
                for coded in self._packets:
                    if coded.size:
                        return self._packet(coded)
                failure = SourceError(f"{self._address.redacted}: the camera ended the stream.", cause=Cause.ENDED)
                break
            except av.error.BlockingIOError:
                self._packets = None  # an exception ends PyAV's iterator, not the stream
                silent = monotonic() - self._last_picture_at
                if silent < self._options.read_timeout_seconds:
                    self._stopping.wait(_LOOK_AGAIN_SECONDS)
                    continue
                failure = SourceError(
                    f"{self._address.redacted}: no picture for {silent:.1f} s. Check the camera and its cable.",
                    cause=Cause.STALLED,
                )
                break
            except av.error.FFmpegError as error:
                failure = SourceError(
                    f"{self._address.redacted}: reading failed ({reason(error)}). Check the camera and its cable.",
                    cause=Cause.ENDED if cause_of(error) is Cause.NOT_FOUND else cause_of(error),
                )
                break
        else:
            return None
        raise failure

    def close(self) -> None:
        """Give the device back. Closing twice is safe."""
        self._packets = self._stream = None
        container, self._container = self._container, None
        if container is not None:
            container.close()

    def _start(self) -> StreamInfo:
        try:
            self._stream = choose_video(self._container, 0, self._address.redacted)
        except SourceError:
            self.close()
            raise
        self._seconds_per_tick = float(self._stream.time_base)
        self._last_picture_at = monotonic()
        return describe(self._stream, live=True)

    def _packet(self, coded: Any) -> Packet:
        received_at = self._last_picture_at = monotonic()
        pts = coded.pts
        return Packet(
            payload=coded,
            pts_seconds=None if pts is None else pts * self._seconds_per_tick,
            received_at=received_at,
            captured_at=received_at,
            capture_utc=utc(),
            capture_clock="arrival",
        )

    def _av_options(self) -> dict[str, str]:
        address = self._address
        asked = {
            "fflags": _NON_BLOCKING,
            "video_size": str(address.size) if address.size else None,
            "framerate": f"{address.fps:g}" if address.fps else None,
            "input_format": address.input_format,
        }
        return {key: value for key, value in asked.items() if value is not None}

    def _check_device(self) -> None:
        shown, path = self._address.redacted, Path(self._address.location)
        try:
            is_device = stat.S_ISCHR(path.stat().st_mode)
        except FileNotFoundError:
            raise self._not_found() from None
        except OSError as error:
            raise SourceError(f"{shown}: cannot be opened ({reason(error)}).", cause=cause_of(error)) from None
        if not is_device:
            raise SourceError(f"{shown}: {path} is not a camera device.", cause=Cause.UNSUPPORTED)

    def _not_found(self) -> SourceError:
        there = ", ".join(sorted(str(path) for path in Path("/dev").glob("video*"))) or "none"
        return SourceError(
            f"{self._address.redacted}: no camera at {self._address.location}. Present: {there}. Plug it in.",
            cause=Cause.NOT_FOUND,
        )

    def _open_failure(self, error: BaseException) -> SourceError:
        cause = cause_of(error)
        if cause is Cause.FAILED:
            remedy = "Check that it is a camera and that it offers the size, fps and format asked for"
            cause = Cause.UNSUPPORTED
        else:
            remedy = _REMEDIES.get(cause, "Check the camera and its cable")
        return SourceError(f"{self._address.redacted}: cannot be opened ({reason(error)}). {remedy}.", cause=cause)
