"""Where a box will be: a Kalman filter with constant velocity, for many boxes at once, in closed form.

A box is its centre and its size, each with a velocity. No coordinate's motion depends on another's, so the 8x8
covariance is four 2x2 blocks. Noise is told in parts of the box's own size (Wojke et al., "Simple Online and Realtime
Tracking with a Deep Association Metric", 2017), so x and y share a block, and so do width and height: per box only two
blocks ``[[pp, pv], [pv, vv]]`` remain, and their inverse is a division.

Time is continuous. The process noise of a step of ``dt`` seconds is that of white acceleration and a random walk
(Bar-Shalom et al., "Estimation with Applications to Tracking and Navigation", 2001, section 6.2): two steps of
``dt / 2`` are exactly one of ``dt``. So a track's state is kept as of its last detection and carried to any time in
one step: frames that are dropped, late or never inferred cost nothing and change nothing.

Arrays are quantity-major: a column a track. State rows, all float64:
``0:4`` centre x, y, width, height (pixels); ``4:8`` their velocities (pixels a second);
``8:10`` pp, ``10:12`` pv, ``12:14`` vv of the centre and of the size (parts of the box, squared).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

STATE_ROWS = 14
_POSITION, _VELOCITY, _PP, _PV, _VV = slice(0, 4), slice(4, 8), slice(8, 10), slice(10, 12), slice(12, 14)
_BLOCKS = (2, 2)  # centre and size, two coordinates each


@dataclass(frozen=True, slots=True)
class MotionNoise:
    """Standard deviations in parts of the box's size. One number for the centre, one for the size."""

    measured: tuple[float, float] = (0.1, 0.1)
    """How far a detected box is off."""
    wander: tuple[float, float] = (0.05, 0.2)
    """How far a box strays from its course in one second: grows with the square root of time."""
    acceleration: tuple[float, float] = (0.5, 0.1)
    """How much a velocity (sizes a second) changes in one second."""
    first_velocity: tuple[float, float] = (2.0, 0.1)
    """How fast a new object may be, in sizes a second."""


DEFAULT_NOISE = MotionNoise()


class Motion:
    """The filter's constants and its three operations. Holds no state."""

    def __init__(self, noise: MotionNoise) -> None:
        def variance(pair: tuple[float, float]) -> Floats:
            return np.square(np.array(pair, dtype=np.float64))[:, None]

        self._measured = variance(noise.measured)
        self._wander = variance(noise.wander)
        self._acceleration = variance(noise.acceleration)
        self._first_velocity = variance(noise.first_velocity)

    def begin(self, state: Floats, boxes: Floats) -> None:
        """Fill ``state [14, T]`` with new tracks at ``boxes [4, T]`` (centre x, y, width, height)."""
        state[_POSITION] = boxes
        state[_VELOCITY] = 0.0
        state[_PP] = self._measured
        state[_PV] = 0.0
        state[_VV] = self._first_velocity

    def predict_boxes(self, state: Floats, elapsed: Floats | float) -> Floats:
        """Return ``[4, T]`` boxes (centre x, y, width, height) ``elapsed`` seconds (``[T]`` or one) after the state."""
        boxes = state[_VELOCITY] * elapsed
        boxes += state[_POSITION]
        return boxes

    def correct(self, state: Floats, boxes: Floats, elapsed: Floats) -> None:
        """Carry ``state [14, T]`` on by ``elapsed [T]`` seconds and take in the detected ``boxes [4, T]``. In place."""
        pp, pv, vv = state[_PP], state[_PV], state[_VV]
        agitation = self._acceleration * elapsed
        vv_dt = (vv + agitation / 3.0) * elapsed  # a third: white acceleration's share in the position's variance
        pp += (2.0 * pv + vv_dt + self._wander) * elapsed
        pv += (vv + 0.5 * agitation) * elapsed
        vv += agitation
        innovation_variance = pp + self._measured
        gain = pp / innovation_variance
        velocity_gain = pv / innovation_variance
        position, velocity = state[_POSITION].reshape(*_BLOCKS, -1), state[_VELOCITY].reshape(*_BLOCKS, -1)
        position += velocity * elapsed
        innovation = boxes.reshape(*_BLOCKS, -1) - position
        position += gain[:, None] * innovation
        velocity += velocity_gain[:, None] * innovation
        vv -= velocity_gain * pv
        kept = 1.0 - gain
        pp *= kept
        pv *= kept
