"""A decoded PyAV frame as three planes: its own buffers where the layout is ours, one conversion where it is not."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import numpy as np

from pipeline.frame import Colour, Plane

Planes = tuple[Plane, Plane, Plane]

_OURS = frozenset({"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p"})
HD_HEIGHT = 720

_FULL_RANGE = 2  # AVCOL_RANGE_JPEG
_BT601 = "ITU601"
_MATRICES: dict[int, Literal["bt601", "bt709", "bt2020"]] = {  # AVCOL_SPC_*
    1: "bt709",
    4: "bt601",
    5: "bt601",
    6: "bt601",
    7: "bt709",  # SMPTE 240M: its coefficients differ from BT.709's by less than 0.02
    9: "bt2020",
    10: "bt2020",
}


def to_planes(frame: Any) -> tuple[Planes, Colour, Any]:
    """Return Y, U and V of ``frame``, what they mean, and the object that keeps their memory alive."""
    layout = frame.format.name
    colour = colour_of(layout, frame.colorspace, frame.color_range, frame.height >= HD_HEIGHT)
    if layout not in _OURS:
        frame, colour = _converted(frame, colour)
    luma, blue, red = frame.planes
    return (_view(luma), _view(blue), _view(red)), colour, frame


def clockwise_rotation(frame: Any) -> int:
    """Return the quarter turns clockwise, in degrees, that the frame's display matrix asks for."""
    anticlockwise = frame.rotation
    return int(-round(anticlockwise / 90) * 90) % 360 if anticlockwise else 0


def _view(plane: Any) -> Plane:
    return np.ndarray((plane.height, plane.width), np.uint8, plane, 0, (plane.line_size, 1))


@lru_cache(maxsize=64)
def colour_of(layout: str, matrix: int, colour_range: int, is_hd: bool) -> Colour:
    """Return what a frame's colours mean, by FFmpeg's numbers for its matrix and range."""
    return Colour(
        _MATRICES.get(matrix) or ("bt709" if is_hd else "bt601"),
        colour_range == _FULL_RANGE or layout.startswith("yuvj"),
    )


def _converted(frame: Any, colour: Colour) -> tuple[Any, Colour]:
    """Return ``frame`` as 8-bit planes of the same size, and what they mean."""
    layout_info = frame.format
    if layout_info.is_rgb or layout_info.has_palette:
        # Full chroma: halving it would blur what RGB had sharp.
        converted = frame.reformat(format="yuv444p", dst_colorspace=_BT601)
        return converted, Colour("bt601", converted.color_range == _FULL_RANGE)
    # One matrix named on both sides means none is applied, whatever the frame's own is.
    converted = frame.reformat(format="yuv420p", src_colorspace=_BT601, dst_colorspace=_BT601)
    return converted, Colour(colour.matrix, converted.color_range == _FULL_RANGE)
