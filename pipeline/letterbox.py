"""Where a source picture lies in the model's input, and the way back for boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.detections import FloatArray
from pipeline.frame import Size

Placement = Literal["centre", "top_left", "stretch"]


@dataclass(frozen=True, slots=True)
class Letterbox:
    """A picture scaled by ``scale_x, scale_y`` and placed at ``left, top`` of the target.

    Positions are continuous: pixel ``i`` covers ``[i, i + 1)``, so a box maps by scale and offset alone.
    """

    source: Size
    target: Size
    inner: Size
    """Size of the scaled picture inside the target, in pixels."""
    left: int
    top: int
    scale_x: float
    scale_y: float

    @classmethod
    def fit(cls, source: Size, target: Size, placement: Placement = "centre") -> Letterbox:
        """Scale ``source`` to fit ``target``, keeping its aspect unless ``placement`` is "stretch".

        Raises ValueError for an empty size.
        """
        if min(*source, *target) < 1:
            raise ValueError(f"letterbox sizes must be at least 1x1, got source {source}, target {target}")
        if placement == "stretch":
            inner, left, top = target, 0, 0
        else:
            scale = min(target.width / source.width, target.height / source.height)
            inner = Size(
                max(1, min(target.width, round(source.width * scale))),
                max(1, min(target.height, round(source.height * scale))),
            )
            # The same rounding as the exporters' own letterbox, so that scores do not move by half a pixel.
            left = round((target.width - inner.width) / 2 - 0.1) if placement == "centre" else 0
            top = round((target.height - inner.height) / 2 - 0.1) if placement == "centre" else 0
        return cls(
            source=source,
            target=target,
            inner=inner,
            left=left,
            top=top,
            scale_x=inner.width / source.width,
            scale_y=inner.height / source.height,
        )

    def to_target(self, xyxy: FloatArray) -> FloatArray:
        """Map float32 ``[N, 4]`` boxes from source pixels to input pixels."""
        scale = np.array([self.scale_x, self.scale_y, self.scale_x, self.scale_y], np.float32)
        offset = np.array([self.left, self.top, self.left, self.top], np.float32)
        return np.asarray(xyxy, np.float32) * scale + offset

    def to_source(self, xyxy: FloatArray) -> FloatArray:
        """Map float32 ``[N, 4]`` boxes from input pixels to source pixels, clipped to the picture."""
        scale = np.array([self.scale_x, self.scale_y, self.scale_x, self.scale_y], np.float32)
        offset = np.array([self.left, self.top, self.left, self.top], np.float32)
        boxes = (np.asarray(xyxy, np.float32) - offset) / scale
        width, height = self.source
        np.clip(boxes, 0, np.array([width, height, width, height], np.float32), out=boxes)
        return boxes
