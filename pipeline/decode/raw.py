"""Passes pictures on that are planes already."""

from __future__ import annotations

from pipeline.decode.decoder import Picture
from pipeline.errors import Cause, SourceError
from pipeline.frame import Colour, Packet, StreamInfo


class RawDecoder:
    """Takes packets whose payload is ``(Y, U, V)``; ``StreamInfo.template`` their Colour, if any."""

    def __init__(self, info: StreamInfo, threads: int | None, max_pixels: int) -> None:
        self._colour = info.template if isinstance(info.template, Colour) else Colour()
        self._max_pixels = max_pixels

    def decode(self, packet: Packet) -> list[Picture]:
        """Return the packet's one picture."""
        luma, blue, red = packet.payload
        if luma.size > self._max_pixels:
            raise SourceError(
                f"pictures of {luma.shape[1]}x{luma.shape[0]} have more than {self._max_pixels} pixels. "
                "Choose a smaller picture.",
                cause=Cause.UNSUPPORTED,
            )
        picture = Picture(
            planes=(luma, blue, red),
            colour=self._colour,
            rotation=0,
            pts_seconds=packet.pts_seconds,
            packet=packet,
            damaged=False,
            owner=None,
        )
        return [picture]

    def drain(self) -> list[Picture]:
        """Return nothing: no picture is ever held back."""
        return []

    def close(self) -> None:
        """Nothing to give back."""
