"""A plain client for tests of the test server: FFmpeg through PyAV, noting what came out."""

from __future__ import annotations

import contextlib
import struct
import threading
from dataclasses import dataclass, field
from typing import Any

import av

from tests.helpers.numbered_clip import read_number


@dataclass
class Played:
    """What a client saw."""

    numbers: list[int | None] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    pts: list[int | None] = field(default_factory=list)
    camera_times: list[float | None] = field(default_factory=list)
    error: BaseException | None = None


def opened(url: str, transport: str = "tcp", seconds: float = 2.0) -> Any:
    """Open a camera quickly; ``seconds`` is the timeout of opening and of each read."""
    options = {"rtsp_transport": transport, "analyzeduration": "100000"}
    return av.open(url, options=options, timeout=seconds)


def play(
    url: str | None,
    transport: str = "tcp",
    pictures: int | None = None,
    seconds: float = 2.0,
    container: Any = None,
) -> Played:
    """Play to the end, to an error, or until so many pictures came out."""
    seen = Played()
    with container or opened(url, transport, seconds) as stream:
        try:
            for packet in stream.demux(video=0):
                clock = packet.get_sidedata("prft") if packet.size and packet.has_sidedata("prft") else None
                if packet.size:
                    seen.camera_times.append(struct.unpack("<q", bytes(clock)[:8])[0] / 1e6 if clock else None)
                with contextlib.suppress(av.error.InvalidDataError):
                    for frame in packet.decode():
                        seen.numbers.append(read_number(frame.to_ndarray(format="gray")))
                        seen.sizes.append((frame.width, frame.height))
                        seen.pts.append(frame.pts)
                if pictures is not None and len(seen.numbers) >= pictures:
                    break
        except av.error.FFmpegError as error:
            seen.error = error
    return seen


def sent_in_order(camera: Any) -> list[int]:
    """Return the numbers sent, in presentation order. For a camera that had a single session."""
    sent = camera.sent
    return [picture.number for picture in sorted(sent, key=lambda p: (p.rtp_timestamp - sent[0].rtp_timestamp) % 2**32)]


class Player:
    """Plays on a thread, so that the test can make faults meanwhile."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        self.seen = Played()
        self._thread = threading.Thread(target=self._run, args=(arguments, keywords), daemon=True)
        self._thread.start()

    def _run(self, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        self.seen = play(*arguments, **keywords)

    def result(self, within_seconds: float = 20) -> Played:
        """Wait for the end and return what was seen."""
        self._thread.join(within_seconds)
        assert not self._thread.is_alive(), "the player did not end"
        return self.seen
