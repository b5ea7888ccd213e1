"""The input size follows the load: smaller in seconds, larger again when there is room, and no flapping between."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from pipeline.infer.size_choice import Frames, SizeChoice

COSTS = (1.0, 0.56, 0.36, 0.25)
STEP = 0.05


class Load:
    """Cameras, a queue of eight frames and a model that takes a frame at a time, in steps of simulated time."""

    def __init__(self, choice: SizeChoice, seconds_a_frame: float, *, noise: float = 0.0, costs=COSTS) -> None:
        self.choice, self.seconds_a_frame, self.noise, self.costs = choice, seconds_a_frame, noise, costs
        self.random = random.Random(1)
        self.now = 1000.0
        self.queue = self.due = self.work = 0.0
        self.frames = Frames(0, 0, 0, 0, 0)
        self.busy: list[float] = []
        self.changes: list[tuple[float, int]] = []

    def run(self, seconds: float, fps: float, *, fixed_fps: float = 0.0) -> None:
        """Play so long; ``fixed_fps`` of other cameras come on top and are served first."""
        until = self.now + seconds
        while self.now < until:
            self._step(fps, fixed_fps)

    def _step(self, fps: float, fixed_fps: float) -> None:
        self.now += STEP
        jitter = 1.0 + self.noise * self.random.uniform(-1, 1)
        capacity = STEP / (self.seconds_a_frame * jitter)
        fixed = min(fixed_fps * STEP, capacity)
        self.queue += fps * STEP
        cost = self.costs[self.choice.level]
        served = min(self.queue, (capacity - fixed) / cost)
        self.queue -= served
        lost = max(0.0, self.queue - 8)
        self.queue -= lost
        self.busy.append((fixed + served * cost) / capacity)
        del self.busy[:-40]
        a, f, p, al, fl = self.frames
        self.frames = Frames(a + served, f + fixed, p, al + lost, fl)
        before = self.choice.level
        if round(self.now / STEP) % 5 == 0:
            busy = sum(self.busy) / len(self.busy)
            self.choice.update(self.now, busy, Frames(*(int(n) for n in self.frames)))
        if self.choice.level != before:
            self.changes.append((self.now, self.choice.level))


def test_full_size_stays_while_all_frames_are_seen() -> None:
    load = Load(SizeChoice(COSTS, 2.0), 0.05, noise=0.3)
    load.run(120, fps=19)
    assert not load.changes


@pytest.mark.parametrize(("times", "level"), [(1.3, 1), (2.0, 2), (3.0, 3), (6.0, 3)])
def test_overload_is_met_within_seconds_by_the_largest_size_that_does(times: float, level: int) -> None:
    load = Load(SizeChoice(COSTS, 2.0), 0.05)
    load.run(10, fps=10)
    begun = load.now
    load.run(60, fps=20 * times)
    assert load.choice.level == level
    first, *more = load.changes
    assert first[0] - begun < 6  # the queue fills first
    assert len(more) <= 1


def test_it_comes_back_to_full_size_after_seconds_of_room() -> None:
    load = Load(SizeChoice(COSTS, 2.0), 0.05)
    load.run(30, fps=40)
    assert load.choice.level
    begun = load.now
    load.run(30, fps=10)
    assert load.choice.level == 0
    assert 5 <= load.changes[-1][0] - begun <= 9


@pytest.mark.parametrize("times", [1.0, 1.05, 1.3, 1.8, 2.75])
def test_a_steady_load_does_not_make_it_flap(times: float) -> None:
    load = Load(SizeChoice(COSTS, 2.0), 0.05, noise=0.3)
    load.run(300, fps=20 * times)
    assert len(load.changes) <= 3, load.changes


def test_a_wrong_idea_of_the_costs_is_tried_ever_less_often() -> None:
    """The file of the smaller size was measured too cheap against the full one: it seems that there is room, always."""
    load = Load(SizeChoice((1.0, 0.9), 2.0), 0.05, costs=(1.0, 0.5))
    load.run(600, fps=26)
    backs = [at for at, level in load.changes if level == 0]
    assert 1 <= len(backs) <= 12
    assert all(later - earlier > 5 for earlier, later in pairwise(backs))


def test_it_makes_room_for_cameras_that_stay_at_full_size() -> None:
    load = Load(SizeChoice(COSTS, 2.0), 0.05)
    load.run(60, fps=12, fixed_fps=12)
    assert load.choice.level == 1


def test_what_would_hardly_fit_is_not_taken_again() -> None:
    load = Load(SizeChoice(COSTS, 2.0), 0.05)
    load.run(20, fps=26)
    assert load.choice.level == 1
    load.run(60, fps=18)
    assert load.choice.level == 1
    load.run(20, fps=13)
    assert load.choice.level == 0


def test_frames_that_other_cameras_lose_count_too() -> None:
    choice = SizeChoice(COSTS, 2.0)
    for step in range(40):  # half of the work is for cameras that keep their size, and it is they that lose frames
        choice.update(1000 + step / 4, 1.0, Frames(3 * step, 3 * step, 0, 0, step))
    assert choice.level


def test_losses_that_are_not_the_models_change_nothing() -> None:
    choice = SizeChoice(COSTS, 2.0)
    for step in range(200):
        choice.update(1000 + step / 4, 0.2, Frames(5 * step, 0, 0, 25 * step, 0))
    assert choice.level == 0


def test_files_beside_take_what_is_left_and_do_not_hold_the_size_down() -> None:
    choice = SizeChoice(COSTS, 2.0)
    now = 1000.0
    for step in range(40):  # half of the frames are lost
        choice.update(now + step / 4, 1.0, Frames(3 * step, 0, 0, 3 * step, 0))
    assert choice.level
    for step in range(40, 80):  # now the camera needs little, and a file takes the rest
        choice.update(now + step / 4, 1.0, Frames(3 * step, 0, 10 * (step - 40), 120, 0))
    assert choice.level == 0
