"""A limit on frames a second: exact over time, even, whatever the camera does."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.rate_limit import RateLimit


@settings(max_examples=60, deadline=None)
@given(
    camera_fps=st.floats(1, 120), max_fps=st.floats(0.5, 120), jitter=st.floats(0, 0.008), seed=st.integers(0, 2**32)
)
def test_as_many_pass_as_are_allowed_and_no_more(camera_fps, max_fps, jitter, seed):
    limit, random = RateLimit(max_fps), Random(seed)
    seconds = 40.0
    times = [number / camera_fps + random.uniform(0, jitter) for number in range(int(seconds * camera_fps))]
    passed = sum(limit.passes(time) for time in sorted(times))
    allowed = min(camera_fps, max_fps) * seconds
    assert passed <= allowed * 1.02 + 2
    assert passed >= allowed * 0.9 - 2


def test_without_a_limit_all_pass_and_a_changed_limit_counts_at_once():
    limit = RateLimit()
    assert all(limit.passes(number / 25) for number in range(50))
    limit.max_fps = 5
    assert sum(limit.passes(2 + number / 25) for number in range(50)) == 10


def test_after_a_leap_of_the_clock_frames_pass_again():
    limit = RateLimit(1)
    assert [limit.passes(time) for time in (100.0, 100.5, 3.0, 3.5, 500.0)] == [True, False, True, False, True]
