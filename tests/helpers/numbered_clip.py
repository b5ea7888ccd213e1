"""Small H.264 clips whose every picture carries its own number in the pixels.

A test that knows which pictures a camera sent, and can read which pictures came out, can tell a lost picture from a
late, repeated or reordered one. The number is a row of 16 black and white blocks along the top eighth of the picture::

    white | black | number, 10 bits, highest first | checksum, 4 bits

The two reference blocks make the reading independent of contrast; the checksum makes garbage read as ``None``.
The pictures have no colour, so any RGB channel reads as well as luma. Numbers run from 0 to the clip's length - 1 in
presentation order, so a clip has at most 1024 pictures; whoever loops a clip sees the numbers wrap.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BLOCKS = 16
NUMBER_BITS = 10
CHECK_BITS = 4
LARGEST_NUMBER = (1 << NUMBER_BITS) - 1
BLOCK_ROW_SHARE = 8  # the row of blocks is 1/8 of the picture's height
BLACK, WHITE = 16, 235

NAL_IDR, NAL_SPS, NAL_PPS, NAL_DELIMITER, NAL_FILLER = 5, 7, 8, 9, 12


@dataclass(frozen=True)
class AccessUnit:
    """One coded picture, without the clip's parameter sets."""

    nals: tuple[bytes, ...]
    """NAL units without start codes. Holds SPS/PPS only where they differ from the clip's first ones."""
    number: int
    """Place in presentation order. For a `NumberedClip` this is the number in the pixels."""
    keyframe: bool
    """True for an IDR picture: decoding can start here."""

    def annexb(self) -> bytes:
        """Return the NAL units with start codes."""
        return b"".join(b"\x00\x00\x00\x01" + nal for nal in self.nals)


@dataclass(frozen=True)
class Clip:
    """An H.264 elementary stream in memory, cut into access units in decode order."""

    path: Path
    width: int
    height: int
    fps: float
    sps: bytes
    pps: bytes
    units: tuple[AccessUnit, ...]

    def __len__(self) -> int:
        return len(self.units)

    @property
    def reorder_pictures(self) -> int:
        """How many pictures late a picture is sent so that none is sent before it was taken. 0 without B-frames."""
        return max(unit.number - position for position, unit in enumerate(self.units))

    def next_keyframe(self, position: int) -> int:
        """Return the first keyframe's position at or after ``position``, wrapping past the end to 0."""
        for candidate in range(position, len(self.units)):
            if self.units[candidate].keyframe:
                return candidate
        return 0

    @classmethod
    def load(cls, path: Path | str) -> Clip:
        """Read an H.264 file (mp4, mkv, ts, ...). Decodes nothing. Pictures before the first IDR are left out."""
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            if stream.codec_context.name != "h264":
                raise ValueError(f"{path} holds {stream.codec_context.name} video; only h264 can be served")
            to_annexb = av.bitstream.BitStreamFilterContext("h264_mp4toannexb", stream)
            raw = [
                (packet.pts, list(split_annexb(bytes(packet))))
                for source in container.demux(stream)
                for packet in (to_annexb.filter(source) if source.size else [])
            ]
            size = (stream.codec_context.width, stream.codec_context.height)
            fps = float(stream.average_rate or 0) or 25.0
        sps = first_nal(raw, NAL_SPS, path)
        pps = first_nal(raw, NAL_PPS, path)
        return cls(Path(path), *size, fps, sps, pps, tuple(access_units(raw, sps, pps)))


class NumberedClip(Clip):
    """A `Clip` made here, whose pictures carry their numbers. Make it with `NumberedClip.make`."""

    @classmethod
    def make(
        cls,
        folder: Path | str,
        *,
        width: int = 320,
        height: int = 192,
        fps: float = 25.0,
        frames: int = 100,
        gop: int = 10,
        b_frames: int = 0,
    ) -> NumberedClip:
        """Return the clip, encoded once and then read from ``folder``. ``gop`` is the distance between keyframes.

        GOPs are closed. Safe when several processes ask for the same clip at once.
        """
        if not 1 <= frames <= LARGEST_NUMBER + 1:
            raise ValueError(f"a numbered clip has 1 to {LARGEST_NUMBER + 1} pictures, got {frames}")
        if width % 2 or height % 2 or width < 2 * BLOCKS or height < 2 * BLOCK_ROW_SHARE:
            raise ValueError(f"width and height must be even and at least 32x16, got {width}x{height}")
        name = f"numbered-{width}x{height}-{fps:g}fps-{frames}-gop{gop}-b{b_frames}.mp4"
        path = Path(folder) / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_name(f"{os.getpid()}-{name}")
            encode(unfinished, width, height, fps, frames, gop, b_frames)
            unfinished.replace(path)
        return cls.load(path)  # type: ignore[return-value]


def encode(path: Path, width: int, height: int, fps: float, frames: int, gop: int, b_frames: int) -> None:
    """Write the numbered pictures to ``path`` with libx264, on one thread."""
    rate = Fraction(fps).limit_denominator(1001)
    settings = f"keyint={gop}:min-keyint={gop}:scenecut=0:open-gop=0:bframes={b_frames}:b-adapt=0:threads=1"
    with av.open(str(path), "w", format="mp4") as container:
        options = {"preset": "veryfast", "crf": "23", "x264-params": settings}
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(paint(number, width, height), format="yuv420p")
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def paint(number: int, width: int, height: int) -> np.ndarray:
    """Return the picture of ``number`` as yuv420p ``[H * 3 / 2, W]``: blocks on top, a moving box on grain below.

    The grain never changes: it makes keyframes too large for one RTP packet and costs nothing between them.
    """
    picture = np.full((height * 3 // 2, width), 128, np.uint8)
    luma = picture[:height]
    luma[:] = np.random.default_rng(0).integers(90, 160, (height, width), np.uint8)
    row = height // BLOCK_ROW_SHARE
    edges = np.linspace(0, width, BLOCKS + 1).round().astype(int)
    for bit, left, right in zip(bits_of(number), edges[:-1], edges[1:], strict=True):
        luma[:row, left:right] = WHITE if bit else BLACK
    box = height // 4
    left = (number * 7) % (width - box)
    luma[height // 2 : height // 2 + box, left : left + box] = 40
    return picture


def bits_of(number: int) -> list[int]:
    """Return the 16 blocks of ``number``, 1 for white."""
    value = (number << CHECK_BITS) | checksum(number)
    return [1, 0] + [(value >> bit) & 1 for bit in reversed(range(NUMBER_BITS + CHECK_BITS))]


def checksum(number: int) -> int:
    """Return the 4-bit CRC (x^4 + x + 1) of ``number``, started so that all-black bits are never valid."""
    remainder = 0b1010
    for bit in reversed(range(NUMBER_BITS)):
        carry = (remainder >> 3) ^ ((number >> bit) & 1)
        remainder = ((remainder << 1) & 0xF) ^ (0b0011 if carry else 0)
    return remainder


def read_number(luma: np.ndarray) -> int | None:
    """Return the number in a picture, or None where there is none to be read with certainty.

    ``luma`` is uint8 ``[H, W]`` (an RGB channel will do). Rescaled pictures read; so do letterboxed ones, because
    borders of one plain value are cut off first. A picture that was cropped or turned does not read.
    """
    luma = without_borders(luma)
    height, width = luma.shape
    if height < 2 * BLOCK_ROW_SHARE or width < 2 * BLOCKS:
        return None
    row = height / BLOCK_ROW_SHARE
    middle = luma[int(row * 0.25) : max(int(row * 0.75), int(row * 0.25) + 1)]
    block = width / BLOCKS
    starts = [int((i + 0.25) * block) for i in range(BLOCKS)]
    ends = [int((i + 0.75) * block) for i in range(BLOCKS)]
    levels = np.array([middle[:, left : max(right, left + 1)].mean() for left, right in zip(starts, ends, strict=True)])
    white, black = levels[0], levels[1]
    if white - black < 60:
        return None
    shares = (levels - black) / (white - black)
    if np.any(np.abs(shares - 0.5) < 0.2) or np.any(np.abs(shares - 0.5) > 0.8):
        return None
    value = 0
    for bit in shares[2:] > 0.5:
        value = value << 1 | int(bit)
    number = value >> CHECK_BITS
    return number if checksum(number) == value & ((1 << CHECK_BITS) - 1) else None


def without_borders(luma: np.ndarray) -> np.ndarray:
    """Cut off the outer rows and columns that hold a single value, as letterboxing leaves them."""
    for _ in range(2):
        plain = luma.min(axis=1) == luma.max(axis=1) if luma.size else np.ones(0, bool)
        kept = np.flatnonzero(~plain)
        luma = (luma[kept[0] : kept[-1] + 1] if kept.size else luma[:0]).T
    return luma


def split_annexb(data: bytes) -> Iterator[bytes]:
    """Yield the NAL units of an Annex B byte string, without start codes and trailing zeros."""
    start = data.find(b"\x00\x00\x01")
    while start >= 0:
        following = data.find(b"\x00\x00\x01", start + 3)
        nal = data[start + 3 : following if following >= 0 else len(data)].rstrip(b"\x00")
        if nal:
            yield nal
        start = following


def nal_type(nal: bytes) -> int:
    """Return the H.264 nal_unit_type."""
    return nal[0] & 0x1F


RawPackets = Sequence[tuple["int | None", list[bytes]]]


def first_nal(raw: RawPackets, wanted: int, path: Path | str) -> bytes:
    """Return the first NAL unit of a type."""
    for _, nals in raw:
        for nal in nals:
            if nal_type(nal) == wanted:
                return nal
    raise ValueError(f"{path} has no NAL unit of type {wanted}")


def access_units(raw: RawPackets, sps: bytes, pps: bytes) -> Iterator[AccessUnit]:
    """Yield access units in decode order, numbered by presentation time, from the first IDR on."""
    is_idr = [any(nal_type(nal) == NAL_IDR for nal in nals) for _, nals in raw]
    if not any(is_idr):
        raise ValueError("the file has no IDR picture, so no place to start decoding")
    first = is_idr.index(True)
    kept, keys = raw[first:], is_idr[first:]
    times = [pts if pts is not None else position for position, (pts, _) in enumerate(kept)]
    order = sorted(range(len(kept)), key=lambda position: times[position])
    numbers = {position: number for number, position in enumerate(order)}
    unwanted = (sps, pps)
    for position, (_, nals) in enumerate(kept):
        sent = tuple(nal for nal in nals if nal not in unwanted and nal_type(nal) not in (NAL_DELIMITER, NAL_FILLER))
        yield AccessUnit(sent, numbers[position], keys[position])
