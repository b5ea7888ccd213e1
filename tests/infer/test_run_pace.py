"""A slot takes its next frame when it can just be ready for the end of the present run: no earlier, and no later."""

from __future__ import annotations

import threading
import time
from statistics import median

import pytest

from pipeline.infer.run_pace import RunPace


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def learned(run_seconds: float, prepare_seconds: float) -> tuple[RunPace, Clock]:
    """A pace that has seen many runs of the same length."""
    clock = Clock()
    pace = RunPace(just_in_time=lambda: True, clock=clock)
    for _ in range(60):
        with pace.run(clock.now - prepare_seconds):
            clock.now += run_seconds
    return pace, clock


def test_the_next_frame_is_taken_when_it_can_just_be_ready() -> None:
    pace, clock = learned(run_seconds=0.1, prepare_seconds=0.01)
    assert pace.seconds_until_due() <= 0
    with pace.run(clock.now - 0.01):
        assert pace.seconds_until_due() == pytest.approx(0.1 - 0.01, abs=0.005)
        clock.now += 0.08
        assert pace.seconds_until_due() == pytest.approx(0.01, abs=0.005)
        with pace.run(clock.now - 0.01):  # asked for while one goes on: the next is due a whole run later
            assert pace.seconds_until_due() == pytest.approx(0.11, abs=0.005)
            clock.now += 0.02
    assert pace.longest_seconds == pytest.approx(0.1)


def test_runs_are_short_by_their_own_length_however_many_go_on_side_by_side() -> None:
    assert not RunPace(just_in_time=lambda: False).short
    assert learned(run_seconds=0.0003, prepare_seconds=0.01)[0].short
    clock = Clock()
    pace = RunPace(just_in_time=lambda: False, clock=clock)
    for _ in range(40):
        with pace.run(clock.now):
            clock.now += 0.0004
            with pace.run(clock.now):
                clock.now += 0.0004
            clock.now += 0.0004
    assert not pace.short


def test_a_run_that_never_ends_shows() -> None:
    pace, clock = learned(run_seconds=0.1, prepare_seconds=0.01)
    assert pace.running_seconds() == 0.0
    with pace.run(clock.now):
        clock.now += 20.0
        assert pace.stuck(30.0) == ""
        clock.now += 25.0
        assert pace.stuck(30.0) == "a run of the model has not come back for 45 s"
        assert pace.running_seconds() == pytest.approx(45.0)
        assert pace.seconds_until_due() <= 0


def test_a_slow_model_is_not_taken_for_a_stuck_one() -> None:
    pace, clock = learned(run_seconds=5.0, prepare_seconds=0.01)
    with pace.run(clock.now):
        clock.now += 90.0
        assert pace.stuck(30.0) == ""


def test_nobody_waits_where_runs_go_on_side_by_side() -> None:
    pace = RunPace(just_in_time=lambda: False)
    for _ in range(2):
        with pace.run(time.monotonic()):
            time.sleep(0.2)
    with pace.run(time.monotonic()):
        begun = time.monotonic()
        pace.wait_until_due()
        assert time.monotonic() - begun < 0.15


@pytest.mark.parametrize("just_in_time", [False, True])
def test_two_slots_and_one_engine_come_out_fresh_and_the_engine_is_kept_busy(just_in_time: bool) -> None:
    """A model of 60 ms, one run at a time, and 5 ms to prepare: taken at once, a frame waits a whole run longer."""
    pace, engine, runs = RunPace(just_in_time=lambda: just_in_time), threading.Lock(), 25
    ages: list[float] = []
    begun = time.monotonic()

    def slot() -> None:
        while len(ages) < runs:
            pace.wait_until_due()
            taken_at = time.monotonic()
            time.sleep(0.005)
            with pace.run(taken_at), engine:
                time.sleep(0.06)
            ages.append(time.monotonic() - taken_at)

    slots = [threading.Thread(target=slot) for _ in range(2)]
    for thread in slots:
        thread.start()
    for thread in slots:
        thread.join()
    rate = len(ages) / (time.monotonic() - begun)
    assert rate > 0.6 * (1 / 0.06)
    assert median(ages[5:]) < 0.105 if just_in_time else median(ages[5:]) > 0.11


def test_the_wait_ends_with_the_first_stream_that_can_wait_itself() -> None:
    live = [True]
    pace = RunPace(just_in_time=lambda: all(live))
    for _ in range(2):
        with pace.run(time.monotonic()):
            time.sleep(0.2)
    with pace.run(time.monotonic()):
        begun = time.monotonic()
        pace.wait_until_due()
        assert time.monotonic() - begun > 0.1
    live.append(False)
    with pace.run(time.monotonic()):
        begun = time.monotonic()
        pace.wait_until_due()
        assert time.monotonic() - begun < 0.1
