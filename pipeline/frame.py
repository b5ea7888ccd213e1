"""What travels: packets from source to decode, frames from decode to publish."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.uint8]

HostPlanes = tuple[Plane, Plane, Plane]
"""uint8 Y ``[H, W]``, U and V ``[h, w]`` with any subsampling; rows may be padded (strided views). Read-only."""

CaptureClock = Literal["rtcp", "arrival", "file"]
"""Where a capture time comes from: the camera's RTCP sender reports, our arrival clock, or a file's read time."""


class Size(NamedTuple):
    """Width and height in pixels."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


class Colour(NamedTuple):
    """How YUV means RGB."""

    matrix: Literal["bt601", "bt709", "bt2020"] = "bt601"
    full_range: bool = False
    """True: luma 0-255; False: luma 16-235, chroma 16-240."""


class DevicePlanes(Protocol):
    """A picture in a GPU's memory: luma, and below it U and V interleaved at half the width and height.

    The memory is the holder's for as long as this object lives. Its content is there once the decoder's stream came so
    far: ``wait_ready`` before kernels read it.
    """

    layout: Literal["nv12", "p010"]
    """Samples of 8 bits, or of 10 bits in the upper bits of 16."""
    size: Size
    chroma_size: Size
    luma: int
    """Device address."""
    chroma: int
    pitch: int
    """Bytes from one row to the next, of both planes."""
    gpu_index: int

    def wait_ready(self, cuda_stream: int) -> None:
        """Make ``cuda_stream`` (a CUstream) wait until the picture is there; returns at once."""

    def download(self) -> HostPlanes:
        """Copy the picture to the host, as planes of 8 bits. Waits for it."""

    def download_rows(self, step: int) -> Plane:
        """Copy every ``step``-th row of the luma to the host, as 8 bits. Waits for it."""


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What a source knows of its stream once it is open."""

    decoder: str
    """Key of ``pipeline.decode.DECODERS`` that understands the packets' payload."""
    live: bool
    """True for cameras and files paced as one: frames that are late are dropped, not waited for."""
    codec: str
    """Codec name for people and logs ("h264", "mjpeg", "raw")."""
    size: Size
    """Coded size as declared; frames say their own."""
    declared_fps: float | None
    """What the container or camera claims. Never used to judge pace."""
    template: Any = None
    """For the decoder: a PyAV stream, or whatever the source and its decoder agreed on."""


@dataclass(frozen=True, slots=True)
class Packet:
    """One coded picture as it arrived."""

    payload: Any
    """What the stream's decoder takes (a PyAV packet, planes of a synthetic picture, bytes of an image file)."""
    pts_seconds: float | None
    """Presentation time as the container says it, in seconds; None where it has none."""
    received_at: float
    """Monotonic clock when the packet arrived, in seconds."""
    captured_at: float
    """Monotonic clock when the camera took the picture, in seconds; equals ``received_at`` without sender reports."""
    capture_utc: float
    """The same moment in seconds since 1970."""
    capture_clock: CaptureClock


@dataclass(slots=True)
class Frame:
    """One decoded picture as the decoder left it, on the host or on a GPU: never converted at full size."""

    stream_id: str
    epoch: int
    """Counts the stream's connections; a new epoch is a new picture story (trackers reset)."""
    index: int
    """Counts the stream's frames over all epochs, from 0. A gap downstream is a drop, and the ledger says which."""
    planes: HostPlanes | DevicePlanes
    """Where the picture lies; ``on_host`` for who needs it there."""
    colour: Colour
    rotation: int
    """Quarter turns clockwise, in degrees (0, 90, 180, 270), that put the picture upright."""
    pts_seconds: float
    """Presentation time in seconds since the epoch's first frame; strictly increasing within an epoch."""
    received_at: float
    captured_at: float
    capture_utc: float
    capture_clock: CaptureClock
    decoded_at: float
    """Monotonic clock when decoding ended, in seconds."""
    decode_seconds: float = 0.0
    """Time the decoder worked for this picture, in seconds."""
    damaged: bool = False
    """The decoder concealed errors in this picture."""
    owner: Any = field(default=None, repr=False)
    """Keeps the decoder's buffer alive while ``planes`` point into it."""

    @property
    def coded_size(self) -> Size:
        """Width and height of the planes, before rotation."""
        return size_of(self.planes)

    @property
    def size(self) -> Size:
        """Width and height of the upright picture: what boxes refer to."""
        width, height = size_of(self.planes)
        return Size(height, width) if self.rotation in (90, 270) else Size(width, height)

    def on_host(self) -> HostPlanes:
        """Return the planes in host memory: as they are, or a copy from the GPU."""
        return on_host(self.planes)


def count_by_stream(frames: Iterable[Frame]) -> dict[str, int]:
    """Return stream id -> how many of ``frames`` are its."""
    counts: dict[str, int] = {}
    for frame in frames:
        counts[frame.stream_id] = counts.get(frame.stream_id, 0) + 1
    return counts


def size_of(planes: HostPlanes | DevicePlanes) -> Size:
    """Return a picture's width and height as it was coded."""
    if isinstance(planes, tuple):
        height, width = planes[0].shape
        return Size(width, height)
    return planes.size


def on_host(planes: HostPlanes | DevicePlanes) -> HostPlanes:
    """Return planes in host memory: as they are, or a copy from the GPU."""
    return planes if isinstance(planes, tuple) else planes.download()
