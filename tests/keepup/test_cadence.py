from __future__ import annotations

import random
from collections.abc import Iterable

from pytest import approx, mark

from pipeline.keepup.cadence import Cadence
from tests.keepup.simulator import paced


def fed(arrivals: Iterable[float], window: float = 5.0) -> tuple[Cadence, float]:
    cadence, last = Cadence(window, stall_seconds=1.5), 0.0
    for last in arrivals:
        cadence.arrived(last)
    return cadence, last


@mark.parametrize("fps", [0.1, 0.5, 1, 5, 12.5, 25, 29.97, 30, 60, 240])
def test_steady_cadence_is_measured_within_half_a_percent(fps):
    cadence, now = fed(paced(fps, until=max(20, 12 / fps)))
    assert cadence.fps(now) == approx(fps, rel=0.005)


@mark.parametrize("seed", range(5))
def test_jitter_does_not_move_it_by_two_percent(seed):
    noise = random.Random(seed)
    cadence, now = fed(paced(25, until=20, jitter=lambda: noise.uniform(0, 0.06)))
    assert cadence.fps(now) == approx(25, rel=0.02)


@mark.parametrize("together", [2, 4, 10])
def test_frames_that_come_by_the_handful_count_each(together):
    cadence, now = fed(index // together * (together / 30) for index in range(600))
    assert cadence.fps(now) == approx(30, rel=together / 100)


def test_variable_rate_gives_frames_over_time():
    intervals = [0.02, 0.06, 0.033, 0.1, 0.02, 0.04] * 60
    times = [sum(intervals[:count]) for count in range(len(intervals))]
    cadence, now = fed(times)
    assert cadence.fps(now) == approx(len(intervals) / sum(intervals), rel=0.03)


def test_gap_is_not_a_slower_camera():
    cadence, now = fed([*paced(30, until=10), *paced(30, until=14.5, start=12.5)])
    assert cadence.fps(now) == approx(30, rel=0.01)


@mark.parametrize("stall_seconds", [0.8, 2.0, 4.0])
def test_burst_after_a_stall_is_not_a_faster_camera(stall_seconds):
    on_time = list(paced(30, until=18))
    held_until = 10 + stall_seconds
    late = [held_until + index * 0.002 for index, at in enumerate(at for at in on_time if 10 <= at < held_until)]
    times = [at for at in on_time if at < 10] + late + [at for at in on_time if at > late[-1]]
    cadence, seen = Cadence(5.0, 1.5), []
    for at in times:
        cadence.arrived(at)
        if at > late[-1]:
            seen.append(cadence.fps(at))
    assert seen == approx([30] * len(seen), rel=0.05)


def test_pictures_handed_out_at_connecting_are_left_out():
    cadence, now = fed([*(index * 0.001 for index in range(60)), *paced(25, until=3, start=0.2)])
    assert cadence.fps(now) == approx(25, rel=0.02)


@mark.parametrize("slower", [10, 2, 0.5, 0.2])
def test_follows_a_camera_that_slows_down(slower):
    cadence, now = fed([*paced(30, until=10), *paced(slower, until=10 + max(12, 12 / slower), start=10)])
    assert cadence.fps(now) == approx(slower, rel=0.05)


def test_unknown_until_enough_frames_came_and_zero_once_they_stop():
    cadence, now = fed([0.0, 0.04, 0.08])
    assert cadence.fps(now) is None
    cadence, now = fed(paced(25, until=10))
    assert 15 < cadence.fps(now + 1.4) < 25
    assert cadence.fps(now + 1.6) == 0.0
    cadence.restart()
    assert cadence.fps(now + 2) is None
