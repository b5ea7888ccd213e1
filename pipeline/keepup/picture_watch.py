"""Whether a camera that delivers still shows something: pictures that never change, or that are black.

Looks at a sample of the luma a few times a second. A scene where nothing moves is not frozen: sensor noise changes
every picture. Codecs hide noise between keyframes, and on a frozen picture they make a ripple of their own: predicted
pictures get better and better, until the next keyframe begins anew. So noise is looked for from keyframe to keyframe,
which a frozen source codes alike; and motion, which no codec hides, in every sample.
"""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.frame import DevicePlanes, HostPlanes

PictureState = Literal["", "frozen", "black"]

FROZEN_SECONDS = 10.0
BLACK_SECONDS = 5.0

SAMPLE_SECONDS = 0.25
"""Between two looks."""
_KEYFRAME_SECONDS = 0.5
_ROWS = 48
"""Rows of a sample: at 1080 lines one in 22, so that the digits of a clock in the picture are always hit."""
_COLUMN_STEP = 4
_NOISE = 0.25
"""Mean difference of two keyframes, in levels of 0-255, from which on there is noise."""
_RIPPLE = 2.0
"""Mean difference of any two pictures that a codec alone may make."""
_MOVED = 16
_MOVED_POINTS = 3
_NEARLY_BLACK = 10
_BRIGHT_SHARE = 0.02
"""Share of a black picture that may be bright: the camera's own clock and name."""
_FEWEST_KEYFRAMES = 2


class PictureWatch:
    """One connection's pictures. Not thread-safe. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._next_at = self._next_keyframe_at = float("-inf")
        self._anchor: NDArray[Any] | None = None
        self._keyframe: NDArray[Any] | None = None
        self._same_since = float("inf")
        self._same_keyframes = 0
        self._black_since = float("inf")
        self.state: PictureState = ""

    def wants(self, now: float, *, keyframe: bool) -> bool:
        """Return whether ``look`` should see the picture of this moment: most it need not."""
        return now >= self._next_at or (keyframe and now >= self._next_keyframe_at)

    def look(self, sample: NDArray[np.uint8], now: float, *, keyframe: bool, full_range: bool) -> bool:
        """See one picture, by ``sample_of``; return whether ``state`` changed."""
        self._next_at = now + SAMPLE_SECONDS
        black = _is_black(sample, 0 if full_range else 16)
        self._black_since = min(self._black_since, now) if black else float("inf")
        noise = keyframe and self._noise_since_keyframe(sample, now)
        if noise or _differs(sample, self._anchor, _RIPPLE):
            self._anchor = sample
            self._same_since = now
            self._same_keyframes = 0
        before, self.state = self.state, self._judge(now)
        return self.state != before

    def _noise_since_keyframe(self, sample: NDArray[Any], now: float) -> bool:
        self._next_keyframe_at = now + _KEYFRAME_SECONDS
        last, self._keyframe = self._keyframe, sample
        if last is not None and not _differs(sample, last, _NOISE):
            self._same_keyframes += 1
            return False
        return last is not None

    def _judge(self, now: float) -> PictureState:
        if now - self._black_since >= BLACK_SECONDS:
            return "black"
        frozen = now - self._same_since >= FROZEN_SECONDS and self._same_keyframes >= _FEWEST_KEYFRAMES
        return "frozen" if frozen else ""


def sample_of(planes: HostPlanes | DevicePlanes) -> NDArray[np.uint8]:
    """Return the part of a picture's luma that the watch looks at. Of a picture on a GPU only that comes down."""
    if isinstance(planes, tuple):
        luma = planes[0]
        return np.ascontiguousarray(luma[:: _row_step(luma.shape[0]), ::_COLUMN_STEP])
    return np.ascontiguousarray(planes.download_rows(_row_step(planes.size.height))[:, ::_COLUMN_STEP])


def _row_step(height: int) -> int:
    return max(1, height // _ROWS)


def _differs(sample: NDArray[Any], other: NDArray[Any] | None, noise: float) -> bool:
    if other is None or other.shape != sample.shape:
        return True
    difference = cv2.absdiff(sample, other)
    return bool(difference.mean() > noise or np.count_nonzero(difference > _MOVED) >= _MOVED_POINTS)


def _is_black(sample: NDArray[Any], black: int) -> bool:
    return int(np.count_nonzero(sample > black + _NEARLY_BLACK)) <= _BRIGHT_SHARE * sample.size
