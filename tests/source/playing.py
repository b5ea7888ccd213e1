"""Plays a source through its decoder, as the stream's capture does, and notes what came out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.decode.decoder import CorruptPacketError, Picture, open_decoder
from pipeline.errors import SourceError
from pipeline.frame import Packet, StreamInfo
from pipeline.source.source import Source, SourceOptions, open_source


@dataclass
class Played:
    """What one connection gave."""

    info: StreamInfo | None = None
    packets: list[Packet] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    corrupt: int = 0
    error: SourceError | None = None

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Width and height of each picture, in order."""
        return [(p.planes[0].shape[1], p.planes[0].shape[0]) for p in self.pictures]


def opened(url: str, stopping: threading.Event | None = None, **options: object) -> Source:
    """Return the source, not yet open."""
    return open_source(str(url), SourceOptions(**options), stopping or threading.Event())


def play(
    url: str,
    *,
    most_packets: int | None = None,
    threads: int = 1,
    keep: Callable[[Picture], Picture | None] = lambda picture: picture,
    stopping: threading.Event | None = None,
    **options: object,
) -> Played:
    """Play to the end, to an error, or so many packets."""
    seen = Played()
    source = opened(url, stopping, **options)
    try:
        seen.info = source.open()
        decoder = open_decoder(seen.info, threads)
        while most_packets is None or len(seen.packets) < most_packets:
            packet = source.read()
            if packet is None:
                seen.pictures += filter(None, map(keep, decoder.drain()))
                break
            seen.packets.append(packet)
            try:
                seen.pictures += filter(None, map(keep, decoder.decode(packet)))
            except CorruptPacketError:
                seen.corrupt += 1
        decoder.close()
    except SourceError as error:
        seen.error = error
    finally:
        source.close()
        source.close()
    return seen
