"""The protocol of every decoder, and the table that finds one by what the source says of its packets."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.frame import Colour, DevicePlanes, HostPlanes, Packet, StreamInfo

DECODERS: dict[str, str] = {  # StreamInfo.decoder -> "module:Class", imported on first use
    "pyav": "pipeline.decode.pyav:PyAvDecoder",
    "image": "pipeline.decode.image:ImageDecoder",
    "raw": "pipeline.decode.raw:RawDecoder",
}

LARGEST_PICTURE = 1 << 27
"""Pixels. 16384 x 8192, twice what 8K cameras send."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One decoded picture, before the stream's capture makes a ``Frame`` of it."""

    planes: HostPlanes | DevicePlanes
    """As in ``Frame.planes``."""
    colour: Colour
    rotation: int
    """Quarter turns clockwise, in degrees, that put it upright."""
    pts_seconds: float | None
    packet: Packet
    """The packet that this picture came in (by timestamp where the codec reorders, else the latest)."""
    damaged: bool
    owner: Any


class CorruptPacketError(Exception):
    """The packet cannot be decoded; the decoder goes on with the next one."""


class Decoder(Protocol):
    """Turns one stream's packets into pictures.

    Passive: starts no thread, keeps no queue, never retries. Not thread-safe: one per connection.
    """

    def decode(self, packet: Packet) -> list[Picture]:
        """Return the pictures now ready, in presentation order. Empty while the codec reorders.

        Raises CorruptPacketError for a packet that is lost, SourceError (unsupported) for a stream that is.
        """

    def drain(self) -> list[Picture]:
        """Return the pictures still held back. Call once, at the end of the stream."""

    def close(self) -> None:
        """Give the decoder's buffers back. Closing twice is safe."""


def open_decoder(info: StreamInfo, threads: int | None, max_pixels: int = LARGEST_PICTURE) -> Decoder:
    """Return a decoder for the stream; ``threads`` bounds its own threads (0 lets a file's decoder choose, None goes
    by the stream).

    Pictures of more than ``max_pixels`` are refused before memory is taken for them.
    """
    module_name, class_name = DECODERS[info.decoder].split(":")
    decoder: Decoder = getattr(importlib.import_module(module_name), class_name)(info, threads, max_pixels)
    return decoder
