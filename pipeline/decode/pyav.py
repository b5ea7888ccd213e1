"""Decodes with FFmpeg through PyAV, on the CPU."""

from __future__ import annotations

from typing import Any

import av
import av.error

from pipeline.decode.decoder import CorruptPacketError, Picture
from pipeline.decode.planes import clockwise_rotation, to_planes
from pipeline.errors import Cause, SourceError
from pipeline.frame import Packet, StreamInfo

# A codec holds back at most 16 reference pictures, and a frame-threaded decoder one more per thread.
_REMEMBERED_PACKETS = 128
_LIVE_THREADS = 2
_FILE_THREADS = 2
_SMALL_PICTURE = 960 * 540
"""Pixels. Handing a smaller picture from thread to thread costs more than decoding it beside the next one gains."""


class PyAvDecoder:
    """Turns PyAV packets into pictures whose planes are the codec's own buffers."""

    def __init__(self, info: StreamInfo, threads: int | None, max_pixels: int) -> None:
        self._codec = info.codec
        self._context: Any = info.template.codec_context
        # Drained frames carry no time base of their own.
        self._seconds_per_tick = float(info.template.time_base)
        self._packets: dict[int, Packet] = {}
        self._latest: Packet | None = None
        if self._context.is_open:  # another decoder began with it: its threads are settled
            pass
        elif info.live:
            # Frame threads would hold back one picture each; slices share the work of one picture.
            self._context.thread_type = "SLICE"
            self._context.thread_count = 1 if threads is None else threads or _LIVE_THREADS
        else:
            small = info.size.width * info.size.height <= _SMALL_PICTURE
            self._context.thread_type = "FRAME"
            self._context.thread_count = (1 if small else _FILE_THREADS) if threads is None else threads
        # The codec checks this before it allocates: a forged header cannot make it take gigabytes.
        self._context.options = {**dict(self._context.options), "max_pixels": str(max_pixels)}

    def decode(self, packet: Packet) -> list[Picture]:
        """Return the pictures now ready, in presentation order. Empty while the codec reorders."""
        if self._context is None:
            raise self._unsupported("it failed before")
        coded = packet.payload
        self._latest = packet
        pts = coded.pts
        if pts is not None:
            packets = self._packets
            packets[pts] = packet
            if len(packets) > _REMEMBERED_PACKETS:
                del packets[next(iter(packets))]
        try:
            frames = self._context.decode(coded)
        except av.error.InvalidDataError:
            raise CorruptPacketError(f"{self._codec}: a packet of {coded.size} bytes is damaged") from None
        except (av.error.FFmpegError, ValueError) as error:
            # PyAV 19 crashes the process when a context that could not be opened is touched again.
            self._context = None
            raise self._unsupported(getattr(error, "strerror", None) or str(error)) from None
        return [self._picture(frame) for frame in frames]

    def drain(self) -> list[Picture]:
        """Return the pictures still held back. Call once, at the end of the stream."""
        if self._latest is None or self._context is None:
            return []
        try:
            frames = self._context.decode(None)
        except (av.error.FFmpegError, ValueError):
            # The end is the wrong place to fail: what was to come is damaged and lost.
            return []
        return [self._picture(frame) for frame in frames]

    def close(self) -> None:
        """Give the decoder's buffers back. Closing twice is safe."""
        # The codec context belongs to the source's container; dropping the references lets both go.
        self._context = None
        self._packets.clear()
        self._latest = None

    def _picture(self, frame: Any) -> Picture:
        pts = frame.pts
        packet = self._latest if pts is None else self._packets.pop(pts, self._latest)
        assert packet is not None  # a picture follows a packet
        planes, colour, owner = to_planes(frame)
        return Picture(
            planes=planes,
            colour=colour,
            rotation=clockwise_rotation(frame),
            pts_seconds=None if pts is None else pts * self._seconds_per_tick,
            packet=packet,
            damaged=frame.is_corrupt or packet.payload.is_corrupt,
            owner=owner,
        )

    def _unsupported(self, reason: str) -> SourceError:
        return SourceError(
            f"codec '{self._codec}' cannot decode this stream ({reason}). "
            "Choose another codec or a smaller picture in the camera's settings.",
            cause=Cause.UNSUPPORTED,
        )
