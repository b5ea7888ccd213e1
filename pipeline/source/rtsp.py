"""Reads a camera's RTSP stream through PyAV."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from typing import Any

import av
import av.error

from pipeline.clock import SteadyUtc, monotonic, utc
from pipeline.errors import Cause, SourceError
from pipeline.frame import CaptureClock, Packet, StreamInfo
from pipeline.source.address import Address
from pipeline.source.av_errors import cause_of, reason
from pipeline.source.av_streams import choose_video, describe
from pipeline.source.resolve import check_host
from pipeline.source.source import SourceOptions

# prft: the picture's wall clock in microseconds since 1970, worked out from RTCP sender reports; then flags.
_PRODUCER_TIME = struct.Struct("<qi")
_OLDEST_CAPTURE_SECONDS = 30.0
# A camera's clock that runs this much ahead of ours is still right; the picture is then taken as just made.
_CLOCK_TOLERANCE_SECONDS = 0.05

_SHORTEST_OPEN_SECONDS = 0.2

_REMEDIES = {
    Cause.UNAUTHORISED: "Check the stream's username and password.",
    Cause.NOT_FOUND: "Check the path after the host.",
    Cause.REFUSED: "Check host and port, and that the camera's RTSP service is on.",
    Cause.UNREACHABLE: "Check that the camera is on and the network leads to it.",
    Cause.BUSY: "Close other viewers of this camera, or raise its limit of sessions.",
    Cause.UNSUPPORTED: "Choose another codec in the camera's settings.",
}


class RtspSource:
    """The video of one RTSP session.

    Messages never hold the password; PyAV's own exceptions, which do, stay inside. Not prevented: a camera that answers
    with a redirect to another RTSP host is followed by FFmpeg, password included; redirects elsewhere are refused.
    """

    def __init__(
        self, address: Address, options: SourceOptions, stopping: threading.Event, steady_utc: SteadyUtc | None = None
    ) -> None:
        """``steady_utc``: what the camera's clock is compared with; None takes the system clock as it is now."""
        self._steady_utc = steady_utc or SteadyUtc()
        self._address = address.with_credentials(options.username, options.password)
        self._options = options
        self._stopping = stopping
        self._container: Any = None
        self._packets: Iterator[Any] | None = None
        self._stream_index = -1
        self._seconds_per_tick = 0.0
        self._last_picture_at = 0.0

    def open(self) -> StreamInfo:
        """Connect and describe the stream, within the open timeout. Raises SourceError with the cause."""
        shown, limit = self._address.redacted, self._options.open_timeout_seconds
        started = monotonic()
        check_host(self._address.host or "", shown, limit, self._stopping)
        remaining = max(_SHORTEST_OPEN_SECONDS, limit - (monotonic() - started))
        try:
            self._container = av.open(
                self._address.url,
                mode="r",
                format="rtsp",
                options=self._av_options(remaining),
                timeout=(remaining, self._options.read_timeout_seconds),
            )
            failure = None
        except Exception as error:  # whatever it is, its text holds the password
            failure = self._open_failure(error, monotonic() - started)
        if failure is not None:
            raise failure
        try:
            stream = choose_video(self._container, self._options.video_track, shown)
        except SourceError:
            self.close()
            raise
        self._stream_index = stream.index
        self._seconds_per_tick = float(stream.time_base)
        self._packets = iter(self._container.demux())
        self._last_picture_at = monotonic()
        return describe(stream, live=True)

    def read(self) -> Packet | None:
        """Return the next coded picture. Raises SourceError when the camera falls silent or ends the stream."""
        packets = self._packets
        if packets is None or self._stopping.is_set():
            return None
        error: Exception | None = None
        try:
            for coded in packets:
                received_at = monotonic()
                if coded.stream_index == self._stream_index and coded.size:
                    self._last_picture_at = received_at
                    return self._packet(coded, received_at)
                # Sound or another track must not pass for pictures.
                if received_at - self._last_picture_at > self._options.read_timeout_seconds:
                    break
                if self._stopping.is_set():
                    return None
        except Exception as caught:  # whatever it is, its text holds the password
            error = caught
        failure = self._read_failure(error)
        error = None  # its text would stay in the traceback's frames
        self._packets = None
        raise failure

    def close(self) -> None:
        """Tell the camera and disconnect. Closing twice is safe."""
        self._packets = None
        container, self._container = self._container, None
        if container is not None:
            container.close()

    def _packet(self, coded: Any, received_at: float) -> Packet:
        captured_at, capture_utc = received_at, utc()
        clock: CaptureClock = "arrival"
        side_data = coded.get_sidedata("prft") if coded.has_sidedata("prft") else None
        if side_data is not None:
            taken_utc = _PRODUCER_TIME.unpack_from(bytes(side_data))[0] * 1e-6
            age = self._steady_utc.at(received_at) - taken_utc
            if not -_CLOCK_TOLERANCE_SECONDS <= age <= _OLDEST_CAPTURE_SECONDS:
                self._steady_utc.set()  # one of the two clocks may have been set right since
                age = self._steady_utc.at(received_at) - taken_utc
            if -_CLOCK_TOLERANCE_SECONDS <= age <= _OLDEST_CAPTURE_SECONDS:
                captured_at, capture_utc, clock = received_at - max(0.0, age), taken_utc, "rtcp"
        pts = coded.pts
        return Packet(
            payload=coded,
            pts_seconds=None if pts is None else pts * self._seconds_per_tick,
            received_at=received_at,
            captured_at=captured_at,
            capture_utc=capture_utc,
            capture_clock=clock,
        )

    def _av_options(self, open_seconds: float) -> dict[str, str]:
        return {
            "protocol_whitelist": "rtp,rtcp,udp,tcp,rtsp,tls",
            "rtsp_transport": self._options.transport,
            "allowed_media_types": "video",
            "user_agent": "onpace",
            # Waits for a key frame where the session description holds no picture size, but not for a frame rate.
            "analyzeduration": str(int(open_seconds * 1e6)),
            "fpsprobesize": "0",
            "max_pixels": str(1 << 27),
        }

    def _open_failure(self, error: BaseException, elapsed: float) -> SourceError:
        shown, words, cause = self._address.redacted, reason(error), cause_of(error)
        timed_out = elapsed >= 0.9 * self._options.open_timeout_seconds
        if isinstance(error, av.error.ExitError) or (timed_out and cause is Cause.FAILED):
            cause, words = Cause.UNREACHABLE, f"no answer for {elapsed:.1f} s"
        elif cause is Cause.ENDED:
            words = "the camera closed the connection while it was asked for the stream"
        remedy = _REMEDIES.get(cause, "Check that the address is an RTSP stream.")
        return SourceError(f"{shown}: cannot be opened ({words}). {remedy}", cause=cause)

    def _read_failure(self, error: BaseException | None) -> SourceError:
        shown, limit = self._address.redacted, self._options.read_timeout_seconds
        silent = monotonic() - self._last_picture_at
        timed_out = isinstance(error, av.error.ExitError) or cause_of(error) is Cause.UNREACHABLE if error else False
        # A read that ends by itself after this long is FFmpeg's own patience, not the camera's farewell.
        if timed_out or silent >= limit:
            return SourceError(
                f"{shown}: no picture for {silent:.1f} s (read timeout {limit:g} s). "
                "Check the camera, its network and its load.",
                cause=Cause.STALLED,
            )
        if error is None or cause_of(error) is Cause.ENDED:
            return SourceError(f"{shown}: the camera ended the stream.", cause=Cause.ENDED)
        if isinstance(error, av.error.InvalidDataError):
            return SourceError(f"{shown}: the camera's data cannot be understood.", cause=Cause.CORRUPT)
        return SourceError(f"{shown}: reading failed ({reason(error)}).", cause=cause_of(error))
