"""The closed form is the textbook filter, and time may be cut anywhere."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.track.motion import STATE_ROWS, Motion, MotionNoise

NOISE = MotionNoise()


def textbook(boxes: list[np.ndarray], steps: list[float], coordinate: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean ``[2]`` and covariance ``[2, 2]`` of one coordinate, with matrices."""
    block = coordinate // 2
    measured, wander, acceleration, first = (
        np.square(pair[block]) for pair in (NOISE.measured, NOISE.wander, NOISE.acceleration, NOISE.first_velocity)
    )
    mean, covariance = np.array([boxes[0][coordinate], 0.0]), np.diag([measured, first])
    observe = np.array([[1.0, 0.0]])
    for box, dt in zip(boxes[1:], steps, strict=True):
        carry = np.array([[1.0, dt], [0.0, 1.0]])
        process = acceleration * np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]]) + np.diag([wander * dt, 0.0])
        mean, covariance = carry @ mean, carry @ covariance @ carry.T + process
        gain = covariance @ observe.T / (covariance[0, 0] + measured)
        mean = mean + gain[:, 0] * (box[coordinate] - mean[0])
        covariance = (np.eye(2) - gain @ observe) @ covariance
    return mean, covariance


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), steps=st.lists(st.floats(0.001, 2.0), min_size=1, max_size=8))
def test_many_boxes_at_once_move_like_the_textbook_filter(seed: int, steps: list[float]) -> None:
    random = np.random.default_rng(seed)
    boxes = [random.uniform(10.0, 500.0, (4, 3)) for _ in range(len(steps) + 1)]
    motion, state = Motion(NOISE), np.zeros((STATE_ROWS, 3))
    motion.begin(state, boxes[0])
    for box, dt in zip(boxes[1:], steps, strict=True):
        motion.correct(state, box, np.full(3, dt))
    for coordinate in range(4):
        for track in range(3):
            mean, covariance = textbook([box[:, track] for box in boxes], steps, coordinate)
            np.testing.assert_allclose(state[[coordinate, 4 + coordinate], track], mean, rtol=1e-9, atol=1e-6)
            block = state[[8 + coordinate // 2, 10 + coordinate // 2, 12 + coordinate // 2], track]
            np.testing.assert_allclose(block, covariance[[0, 0, 1], [0, 1, 1]], rtol=1e-7, atol=1e-12)
