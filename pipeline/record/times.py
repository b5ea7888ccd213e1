"""The side file of a recording: when each packet arrived, and what the camera said of it. JSON Lines, a packet a line.

The video file beside it is for any player; this one makes the replay exact. A line is written before its packet, so a
packet that survives a crash has its line; a line without packet, or half a line at the end, is left out when read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from pipeline.frame import CaptureClock

FORMAT = 1
VIDEO_SUFFIX = ".mkv"
TIMES_SUFFIX = ".times.jsonl"
_SEGMENT = re.compile(r"(.+)\.mkv\Z")


class SegmentHeader(Struct, tag="onpace-recording", tag_field="kind"):
    """First line: what the segment is. Fields never change; new ones go last with a default."""

    format: int
    run: str
    """Names one start of ``onpace record``: arrival times of one run share their zero."""
    stream_id: str
    source: str
    """The camera's address, redacted."""
    connection: int
    """Counts the run's connections to the camera, from 1."""
    codec: str
    width: int
    height: int
    fps: float | None
    """As the camera claims."""
    ticks: tuple[int, int]
    """Seconds a tick of ``pts`` and ``dts``, as a fraction."""
    started_utc: float
    """Seconds since 1970 at the run's zero, for people."""


class PacketTimes(Struct, array_like=True, gc=False):
    """One packet: ``[ms, arrived, age, clock, pts, dts]``."""

    ms: int
    """The packet's time stamp in the video file, milliseconds; what tells which packet this is."""
    arrived: float
    """Seconds since the run's zero, on the monotonic clock."""
    age: float
    """Seconds from capture to arrival; 0 where the camera does not say."""
    clock: CaptureClock
    pts: int | None
    """As the camera sent it, in ticks."""
    dts: int | None


_encode = msgspec.json.Encoder().encode
_decode_header = msgspec.json.Decoder(SegmentHeader).decode
_decode_packet = msgspec.json.Decoder(PacketTimes).decode


def line_of(what: SegmentHeader | PacketTimes) -> bytes:
    """Return one line of a side file."""
    return _encode(what) + b"\n"


def times_path(video: Path) -> Path:
    """Return the side file of a video file."""
    return video.with_name(video.name.removesuffix(VIDEO_SUFFIX) + TIMES_SUFFIX)


def segments_in(folder: Path) -> list[Path]:
    """Return the video files of one stream's recording, in the order in which they were made."""
    return sorted(path for path in folder.iterdir() if _SEGMENT.match(path.name) and times_path(path).is_file())


def read_times(video: Path) -> tuple[SegmentHeader | None, Iterator[PacketTimes]]:
    """Return a segment's header and its packets, up to where the file was cut off.

    The header is None where not even that survived. Raises OSError where the file cannot be read.
    """
    lines = times_path(video).read_bytes().split(b"\n")[:-1]  # what follows the last line end is half a line
    try:
        header = _decode_header(lines[0])
    except (IndexError, msgspec.DecodeError):
        return None, iter(())
    return header, _packets(lines[1:])


def _packets(lines: list[bytes]) -> Iterator[PacketTimes]:
    for line in lines:
        try:
            yield _decode_packet(line)
        except msgspec.DecodeError:
            return
