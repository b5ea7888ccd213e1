"""The definition of preprocessing: planar YUV to the letterboxed, normalised input tensor, on the host.

Each plane is resized straight to the letterboxed size, and only that small picture is converted to RGB: a full-size
RGB or BGR picture never exists. Every kernel on a device agrees with this within 1/255 a channel:

1. Y, U and V are each resized to the inner size of the letterbox: bilinear, pixel centres at ``i + 0.5``, no antialias
   (what the exporters' own letterbox does). Chroma planes of any subsampling are stretched over the same picture.
2. Quarter turns put the picture upright.
3. RGB = matrix x (Y, U, V) + offset by the frame's colour matrix and range, rounded and clamped to 0-255.
4. tensor = (RGB * scale - mean) / deviation, in the model's channel order; the rest of the tensor is the pad value.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.model_spec import ModelSpec
from pipeline.frame import Colour, Frame, Size
from pipeline.letterbox import Letterbox

_LUMA_WEIGHTS = {  # matrix -> (Kr, Kb): ITU-R BT.601-7, BT.709-6, BT.2020-2
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
}
_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


@lru_cache(maxsize=16)
def yuv_to_rgb(colour: Colour) -> NDArray[np.float32]:
    """Return float32 ``[3, 4]``: rows R, G, B; columns Y, U, V in 0-255 and the offset."""
    kr, kb = _LUMA_WEIGHTS[colour.matrix]
    kg = 1.0 - kr - kb
    luma, chroma, black = (1.0, 1.0, 0.0) if colour.full_range else (255 / 219, 255 / 224, 16.0)
    red_v = 2 * (1 - kr) * chroma
    blue_u = 2 * (1 - kb) * chroma
    rows = np.array(
        [
            [luma, 0.0, red_v],
            [luma, -blue_u * kb / kg, -red_v * kr / kg],
            [luma, blue_u, 0.0],
        ]
    )
    offset = -rows @ np.array([black, 128.0, 128.0])
    return np.column_stack([rows, offset]).astype(np.float32)


class _Scratch:
    """Buffers of one letterboxed picture."""

    def __init__(self, inner: Size, lying: bool) -> None:
        self.inner = inner
        self.lying = lying
        upright = (inner.height, inner.width)
        turned = upright[::-1] if lying else upright
        small = np.empty((3, *turned), np.uint8)
        self.small = list(small)
        self.yuv = np.empty((*turned, 3), np.uint8)
        self.rgb = np.empty((*upright, 3), np.uint8)
        # Once merged, the small planes are free to take the channels: what is still in the cache costs least.
        self.planar = small.reshape(3, *upright)
        self.channels = list(self.planar)


class HostPreprocess:
    """Prepares frames of any size for one slot's input tensor. Not thread-safe: one per slot."""

    def __init__(self, spec: ModelSpec, tensor: NDArray[Any]) -> None:
        """``tensor``: ``[N, 3, H, W]``, float32 or float16, which frames are written into row by row."""
        self._target = Size(spec.input_width, spec.input_height)
        self._pixels = spec.pixels
        self._tensor = tensor
        self._painted: list[Letterbox | None] = [None] * tensor.shape[0]
        self._places: list[NDArray[Any]] = list(tensor)
        """Where the picture lies in each row, inside the padding."""
        gain = spec.pixels.scale / np.array(spec.pixels.deviation)
        bias = -np.array(spec.pixels.mean) / np.array(spec.pixels.deviation)
        self._gain = gain.astype(np.float32).reshape(3, 1, 1)
        self._bias = bias.astype(np.float32).reshape(3, 1, 1)
        self._biased = bool(self._bias.any())
        self._plain = not self._biased and bool((self._gain == 1).all())
        self._geometries: dict[Size, Letterbox] = {}
        self._scratch: _Scratch | None = None

    def __call__(self, frame: Frame, row: int) -> Letterbox:
        """Write ``frame`` into row ``row`` of the tensor; return where it lies there."""
        geometry = self._geometry(frame.size)
        if self._painted[row] is not geometry:
            self._paint_padding(row, geometry)
        scratch = self._scratch_for(geometry.inner, frame.rotation)
        for plane, small in zip(frame.on_host(), scratch.small, strict=True):
            cv2.resize(plane, small.shape[::-1], dst=small, interpolation=cv2.INTER_LINEAR)
        yuv = cv2.merge(scratch.small, dst=scratch.yuv)
        if frame.rotation:
            yuv = cv2.rotate(yuv, _TURNS[frame.rotation])
        rgb = cv2.transform(yuv, self._matrix(frame.colour), dst=scratch.rgb)
        cv2.split(rgb, mv=scratch.channels)
        self._write(scratch.planar, self._places[row])
        return geometry

    def _scratch_for(self, inner: Size, rotation: int) -> _Scratch:
        """Return buffers for this size: made anew for every picture, they would cost more than the arithmetic."""
        lying = rotation in (90, 270)
        if self._scratch is None or (self._scratch.inner, self._scratch.lying) != (inner, lying):
            self._scratch = _Scratch(inner, lying)
        return self._scratch

    def _geometry(self, size: Size) -> Letterbox:
        geometry = self._geometries.get(size)
        if geometry is None:
            if len(self._geometries) > 64:
                self._geometries.clear()
            geometry = Letterbox.fit(size, self._target, self._pixels.placement)
            self._geometries[size] = geometry
        return geometry

    def _matrix(self, colour: Colour) -> NDArray[np.float32]:
        matrix = yuv_to_rgb(colour)
        return matrix if self._pixels.order == "rgb" else matrix[::-1]

    def _write(self, channels: NDArray[np.uint8], place: NDArray[Any]) -> None:
        """Normalise uint8 ``[3, h, w]`` into the picture's place in the tensor."""
        if self._plain:
            np.copyto(place, channels)
        elif place.dtype == np.float32:
            np.copyto(place, channels)  # apart from the product, each is one pass without a buffer between
            place *= self._gain
            if self._biased:
                place += self._bias
        else:
            place[...] = channels * self._gain + self._bias

    def _paint_padding(self, row: int, geometry: Letterbox) -> None:
        inner, tensor = geometry.inner, self._tensor[row]
        tensor[...] = self._pixels.pad_value * self._gain + self._bias
        rows = slice(geometry.top, geometry.top + inner.height)
        self._places[row] = tensor[:, rows, geometry.left : geometry.left + inner.width]
        self._painted[row] = geometry
