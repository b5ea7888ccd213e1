"""Decodes picture files (JPEG, PNG, BMP, WebP, TIFF) through PyAV."""

from __future__ import annotations

from typing import Any

import av
import av.error

from pipeline.decode.decoder import CorruptPacketError, Picture
from pipeline.decode.planes import clockwise_rotation, to_planes
from pipeline.frame import Packet, StreamInfo

_STARTS = (
    (b"\xff\xd8\xff", "mjpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"BM", "bmp"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
)


class ImageDecoder:
    """Takes packets whose payload is a picture file's bytes: one packet, one picture."""

    def __init__(self, info: StreamInfo, threads: int | None, max_pixels: int) -> None:
        self._max_pixels = max_pixels

    def decode(self, packet: Packet) -> list[Picture]:
        """Return the packet's one picture. Raises CorruptPacketError where there is none."""
        data: bytes = packet.payload
        codec = _codec_of(data)
        if codec is None:
            raise CorruptPacketError("not a picture. Allowed: JPEG, PNG, BMP, WebP, TIFF")
        try:
            frames = self._new_context(codec).decode(av.Packet(data))
            if not frames:
                raise CorruptPacketError(f"a {codec} of {len(data)} bytes holds no picture")
            planes, colour, owner = to_planes(frames[0])
        except (av.error.FFmpegError, ValueError, MemoryError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise CorruptPacketError(f"a {codec} of {len(data)} bytes cannot be decoded ({reason})") from None
        picture = Picture(
            planes=planes,
            colour=colour,
            rotation=clockwise_rotation(frames[0]),
            pts_seconds=packet.pts_seconds,
            packet=packet,
            damaged=frames[0].is_corrupt,
            owner=owner,
        )
        return [picture]

    def drain(self) -> list[Picture]:
        """Return nothing: no picture is ever held back."""
        return []

    def close(self) -> None:
        """Nothing to give back."""

    def _new_context(self, codec: str) -> Any:
        # One a picture: FFmpeg's PNG decoder filters the first row of a picture against the last row of the one before.
        context = av.CodecContext.create(codec, "r")
        # More threads would hold the picture back.
        context.thread_count = 1
        context.options = {"max_pixels": str(self._max_pixels)}
        return context


def _codec_of(data: bytes) -> str | None:
    """Return the codec by the file's first bytes; its name may lie."""
    for start, codec in _STARTS:
        if data.startswith(start):
            return codec
    return "webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None
