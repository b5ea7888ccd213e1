"""A frame as a small JPEG: each plane is resized straight to the preview's size, and only that is converted."""

from __future__ import annotations

import math

import cv2
import numpy as np

from pipeline.frame import Frame, Size
from pipeline.preprocess.host import yuv_to_rgb

_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
_USUAL_SHAPE = 9 / 16
_QUALITY = 65
"""Of 100. Below 60 edges swarm; above 75 bytes grow faster than what the eye gains."""


def preview_size(size: Size, width: int) -> Size:
    """Return the size for a picture of ``size`` with as many pixels as 16:9 has at ``width``, never enlarged."""
    scale = min(1.0, width * math.sqrt(_USUAL_SHAPE / (size.width * size.height)))
    return Size(max(1, round(size.width * scale)), max(1, round(size.height * scale)))


def shrink(frame: Frame, width: int) -> bytes:
    """Return the upright picture as a JPEG about ``width`` pixels wide.

    Bilinear without antialias, which costs a tenth of an average over areas: this is to recognise things by, and the
    model never sees it.
    """
    target = preview_size(frame.size, width)
    lying = target[::-1] if frame.rotation in (90, 270) else target
    small = [cv2.resize(plane, tuple(lying), interpolation=cv2.INTER_LINEAR) for plane in frame.on_host()]
    # OpenCV keeps pictures as BGR.
    matrix = np.ascontiguousarray(yuv_to_rgb(frame.colour)[::-1])
    picture = cv2.transform(cv2.merge(small), matrix)
    if frame.rotation:
        picture = cv2.rotate(picture, _TURNS[frame.rotation])
    _, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return jpeg.tobytes()
