"""A limit on frames a second: exact over time, even, whatever the camera does."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.thinning import Thinning


@settings(max_examples=60, deadline=None)
@given(
    camera_fps=st.floats(1, 120), max_fps=st.floats(0.5, 120), jitter=st.floats(0, 0.008), seed=st.integers(0, 2**32)
)
def test_as_many_pass_as_are_allowed_and_no_more(camera_fps, max_fps, jitter, seed):
    limit, random = Thinning(max_fps), Random(seed)
    seconds = 40.0
    times = [number / camera_fps + random.uniform(0, jitter) for number in range(int(seconds * camera_fps))]
    passed = sum(not limit.leave_out(time) for time in sorted(times))
    allowed = min(camera_fps, max_fps) * seconds
    assert passed <= allowed * 1.02 + 2
    assert passed >= allowed * 0.9 - 2


def test_without_a_limit_all_pass_and_a_changed_limit_counts_at_once():
    limit = Thinning()
    assert all(not limit.leave_out(number / 25) for number in range(50))
    limit.max_fps = 5
    assert sum(not limit.leave_out(2 + number / 25) for number in range(50)) == 10


@settings(max_examples=60, deadline=None)
@given(every=st.integers(1, 6), frames=st.integers(0, 60), max_fps=st.sampled_from([None, 12.5]))
def test_every_nth_of_those_that_the_rate_allows_goes_on(every, frames, max_fps):
    thinning = Thinning(max_fps, every)
    reasons = []
    for number in range(frames):
        foretold = thinning.would_leave_out(number / 25)
        reasons.append(thinning.leave_out(number / 25))
        assert reasons[-1] == foretold
    allowed = [reason for reason in reasons if reason != "rate"]
    assert allowed == ["" if number % every == 0 else "stride" for number in range(len(allowed))]
    assert len(allowed) == (frames if max_fps is None else (frames + 1) // 2)


def test_another_connection_begins_with_a_frame_that_goes_on():
    thinning = Thinning(every=10)
    assert [thinning.leave_out(number) for number in range(3)] == ["", "stride", "stride"]
    thinning.begin()
    assert [thinning.leave_out(number) for number in range(3)] == ["", "stride", "stride"]


def test_after_a_leap_of_the_clock_frames_pass_again():
    limit = Thinning(1)
    assert [not limit.leave_out(time) for time in (100.0, 100.5, 3.0, 3.5, 500.0)] == [True, False, True, False, True]
