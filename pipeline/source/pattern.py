"""Draws moving shapes: a stream that needs no camera and no file, the same for the same seed.

Every picture carries its index in a row of 32 black and white blocks along its top sixteenth::

    white | black | index, 24 bits, highest first | checksum, 6 bits

``read_index`` reads it back, so that whoever receives a picture can tell which one it is.
"""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UrlError
from pipeline.frame import Colour, Packet, Plane, Size, StreamInfo
from pipeline.source.address import Address
from pipeline.source.pace import Pace, packet_read_now
from pipeline.source.source import SourceOptions

_DEFAULT_SIZE = Size(640, 360)
_DEFAULT_FPS = 25.0
_SMALLEST_SIDE = 64
_BLOCKS, _INDEX_BITS, _CHECK_BITS = 32, 24, 6
_ROW_SHARE = 16
_BLACK, _WHITE = 16, 235
_SHAPES = 6

Planes = tuple[Plane, Plane, Plane]
_Mask = NDArray[np.bool_] | None


class PatternSource:
    """Numbered pictures of moving discs and boxes, as YUV 4:2:0 planes for the ``raw`` decoder.

    Endless unless ``frames`` says otherwise; as fast as it is read unless ``options.realtime``.
    """

    def __init__(self, address: Address, options: SourceOptions, stopping: threading.Event) -> None:
        self._size = address.size or _DEFAULT_SIZE
        if min(self._size) < _SMALLEST_SIDE:
            raise UrlError(f"{address.redacted}: size {self._size} is too small. Allowed: from 64x64.")
        self._fps = address.fps or _DEFAULT_FPS
        self._frames = address.frames
        self._seed = address.seed
        self._realtime = options.realtime
        self._stopping = stopping
        self._scene: _Scene | None = None
        self._pace: Pace | None = None
        self._index = 0

    def open(self) -> StreamInfo:
        """Set up the scene."""
        self._scene = _Scene(self._size, self._fps, self._seed)
        self._pace = Pace(self._fps, self._stopping) if self._realtime else None
        self._index = 0
        return StreamInfo(
            decoder="raw", live=self._realtime, codec="raw", size=self._size, declared_fps=self._fps, template=Colour()
        )

    def read(self) -> Packet | None:
        """Return the next picture; None after the last one."""
        index = self._index
        if self._scene is None or self._stopping.is_set() or index == self._frames:
            return None
        pts_seconds = index / self._fps
        due = self._pace.wait(pts_seconds) if self._pace is not None else None
        if self._pace is not None and due is None:
            return None
        self._index += 1
        return packet_read_now(self._scene.draw(index), pts_seconds, due)

    def close(self) -> None:
        """Forget the scene. Closing twice is safe."""
        self._scene = None


def read_index(luma: Plane) -> int | None:
    """Return the index that a pattern's picture carries; None where the blocks are not readable."""
    height, width = luma.shape
    row = luma[height // _ROW_SHARE // 2]
    samples = [int(row[(2 * block + 1) * width // (2 * _BLOCKS)]) for block in range(_BLOCKS)]
    if samples[0] < samples[1] + 64:
        return None
    middle = (samples[0] + samples[1]) / 2
    bits = [sample > middle for sample in samples[2:]]
    index = _number(bits[:_INDEX_BITS])
    return index if _number(bits[_INDEX_BITS:]) == _checksum(index) else None


class _Scene:
    """Draws picture ``index`` from nothing but the seed and the index."""

    def __init__(self, size: Size, fps: float, seed: int) -> None:
        self._width, self._height = size
        self._fps = fps
        random = np.random.default_rng(seed)
        self._background = self._make_background(random)
        self._shapes = [_Shape(random, size, round_one=number % 2 == 0) for number in range(_SHAPES)]
        columns = np.arange(self._width) * _BLOCKS // self._width
        self._block_of_column: NDArray[np.intp] = np.minimum(columns, _BLOCKS - 1)

    def draw(self, index: int) -> Planes:
        luma, blue, red = (plane.copy() for plane in self._background)
        for shape in self._shapes:
            shape.draw(luma, blue, red, index / self._fps)
        self._number(luma, blue, red, index)
        return luma, blue, red

    def _make_background(self, random: np.random.Generator) -> Planes:
        down = np.linspace(0, 1, self._height)[:, None]
        across = np.linspace(0, 1, self._width)[None, :]
        waves = np.sin(across * random.uniform(4, 12)) * np.cos(down * random.uniform(4, 12))
        noise = random.integers(-4, 5, (self._height, self._width))
        luma = (70 + 40 * down + 20 * waves + noise).clip(_BLACK, _WHITE).astype(np.uint8)
        half = ((self._height + 1) // 2, (self._width + 1) // 2)
        return (
            luma,
            np.full(half, random.integers(118, 139), np.uint8),
            np.full(half, random.integers(118, 139), np.uint8),
        )

    def _number(self, luma: Plane, blue: Plane, red: Plane, index: int) -> None:
        rows = max(2, self._height // _ROW_SHARE)
        index &= (1 << _INDEX_BITS) - 1
        word = (0b10 << (_INDEX_BITS + _CHECK_BITS)) | (index << _CHECK_BITS) | _checksum(index)
        blocks = np.array([_WHITE if word >> bit & 1 else _BLACK for bit in range(_BLOCKS - 1, -1, -1)], np.uint8)
        luma[:rows] = blocks[self._block_of_column]
        blue[: rows // 2] = red[: rows // 2] = 128


class _Shape:
    """A disc or box of one colour that swings across the picture."""

    def __init__(self, random: np.random.Generator, size: Size, *, round_one: bool) -> None:
        # Even sides and places keep luma and chroma of a shape together.
        height = max(8, int(min(size) * random.uniform(0.12, 0.3))) & ~1
        width = height if round_one else max(8, int(height * random.uniform(0.5, 1.8))) & ~1
        self._mask: _Mask = _disc(height) if round_one else None
        self._half_mask: _Mask = _disc(height // 2) if round_one else None
        self._shape = Size(min(width, size.width & ~1), height)
        self._room = (size.width - self._shape.width, size.height - self._shape.height)
        self._hertz = random.uniform(0.03, 0.15, 2)
        self._phase = random.uniform(0, 2 * np.pi, 2)
        self._yuv = (int(random.integers(40, 220)), int(random.integers(40, 216)), int(random.integers(40, 216)))

    def draw(self, luma: Plane, blue: Plane, red: Plane, seconds: float) -> None:
        swing = (1 + np.sin(2 * np.pi * self._hertz * seconds + self._phase)) / 2
        left, top = int(swing[0] * self._room[0]) & ~1, int(swing[1] * self._room[1]) & ~1
        width, height = self._shape
        _paint(luma[top : top + height, left : left + width], self._yuv[0], self._mask)
        half = np.s_[top // 2 : (top + height) // 2, left // 2 : (left + width) // 2]
        _paint(blue[half], self._yuv[1], self._half_mask)
        _paint(red[half], self._yuv[2], self._half_mask)


def _paint(area: Plane, value: int, mask: _Mask) -> None:
    if mask is None:
        area[:] = value
    else:
        np.copyto(area, np.uint8(value), where=mask)


def _disc(side: int) -> NDArray[np.bool_]:
    offset = np.arange(side) - (side - 1) / 2
    inside: NDArray[np.bool_] = offset[:, None] ** 2 + offset[None, :] ** 2 <= (side / 2) ** 2
    return inside


def _number(bits: list[bool]) -> int:
    return int("".join("1" if bit else "0" for bit in bits), 2)


def _checksum(index: int) -> int:
    # 61 is prime, so any one wrong bit shows; + 1 keeps an all-black row from reading as 0.
    return index % 61 + 1
