"""Each cause is retried in its own way."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import Cause
from pipeline.retry import LADDERS, Backoff


@pytest.mark.parametrize("cause", list(Cause))
def test_every_cause_has_a_ladder_that_never_shrinks(cause):
    waits = LADDERS[cause].waits
    assert list(waits) == sorted(waits)
    assert waits[0] > 0


def test_a_wrong_password_is_tried_three_times_in_ten_minutes_and_then_rarely():
    backoff = Backoff(max_wait_seconds=1.0)
    tries, now = [0.0], 0.0
    for _ in range(8):
        now += backoff.wait_seconds(Cause.UNAUTHORISED)
        tries.append(now)
    assert sum(moment <= 600 for moment in tries) == 3
    assert all(later - earlier >= 900 for earlier, later in itertools.pairwise(tries[3:]))


@given(seed=st.integers(), cap=st.floats(0.1, 60))
def test_a_rebooting_camera_is_tried_soon_and_within_the_cap(seed, cap):
    backoff = Backoff(cap, seed)
    waits = [backoff.wait_seconds(Cause.REFUSED) for _ in range(20)]
    assert waits[0] <= 0.25
    assert max(waits) <= min(cap, 10)
    assert min(waits[8:]) >= min(cap, 10) / 2


def test_a_new_cause_or_a_good_run_starts_over():
    backoff = Backoff(10, seed=1)
    for _ in range(6):
        backoff.wait_seconds(Cause.STALLED)
    assert backoff.wait_seconds(Cause.REFUSED) <= 0.25
    for _ in range(6):
        backoff.wait_seconds(Cause.REFUSED)
    backoff.reset()
    assert backoff.wait_seconds(Cause.REFUSED) <= 0.25


def test_a_wrong_password_is_not_tried_more_often_because_the_line_drops_in_between():
    backoff = Backoff(max_wait_seconds=1.0)
    tries, now = [0.0], 0.0
    for _ in range(8):
        now += backoff.wait_seconds(Cause.UNAUTHORISED)
        now += backoff.wait_seconds(Cause.UNREACHABLE)
        tries.append(now)
    assert sum(moment <= 600 for moment in tries) == 3
