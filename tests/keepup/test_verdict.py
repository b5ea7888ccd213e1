"""The verdict against a simulated load whose truth is known to the frame."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
from pytest import approx, mark

from pipeline.keepup.settings import KeepupSettings
from pipeline.keepup.verdict import Debounce
from tests.keepup.simulator import paced, simulate

FPS = 30.0
FAST = KeepupSettings(window_seconds=1.0, hysteresis_seconds=0.5)


def constant(load: float):
    return lambda now: load / FPS


def noisy(load: float, seed: int):
    noise = random.Random(seed)
    return lambda now: load / FPS * noise.uniform(0.7, 1.3)


@mark.parametrize("status_every", [0.1, 1.0])
@mark.parametrize(
    ("load", "verdict"),
    [(0.5, "keeping_up"), (0.9, "keeping_up"), (1.1, "overloaded"), (3.0, "overloaded")],
)
def test_verdict_and_figures_are_true(load, verdict, status_every):
    truth = simulate(paced(FPS, 30), constant(load), until=30, status_every=status_every)
    status, ledger = truth.last, truth.last.ledger
    assert status.verdict == verdict
    assert status.final.verdict == verdict
    assert status.final.kept_pace is (verdict == "keeping_up")
    assert ledger.balanced
    assert (ledger.received, ledger.published) == (truth.received, len(truth.published_at))
    assert ledger.dropped_total == len(truth.dropped_at)
    assert status.cadence_fps == approx(FPS, rel=0.01)
    assert status.published_fps == approx(min(FPS, FPS / load), rel=0.02)
    assert status.published_share == approx(min(1.0, 1 / load), abs=0.02)
    for percent, said in ((50, "p50"), (95, "p95"), (99, "p99")):
        exact = np.percentile(truth.ages, percent, method="inverted_cdf")
        assert getattr(status.lifetime.age_seconds, said) == approx(float(exact), rel=0.021)
    assert status.lifetime.age_seconds.max == approx(max(truth.ages))


def test_stage_in_the_way_is_named_with_its_evidence():
    status = simulate(paced(FPS, 20), constant(2.0), until=20).last
    assert status.cause_stage == "infer"
    assert status.cause.startswith("infer is the limit: busy ")
    assert "15.0 of 30.0 fps published" in status.cause
    assert simulate(paced(FPS, 20), constant(0.5), until=20).last.cause == ""


@mark.parametrize("load", [0.9, 0.98, 1.0, 1.01])
def test_load_that_fits_is_keeping_up_without_flapping(load):
    truth = simulate(paced(FPS, 120), constant(load), until=120, status_every=0.5)
    assert truth.verdicts(since=3) == {"keeping_up"}


@mark.parametrize("seed", [1, 2])
def test_noise_with_room_to_spare_is_keeping_up(seed):
    noise = random.Random(seed)
    jittered = paced(FPS, 120, jitter=lambda: noise.uniform(0, 0.03))
    truth = simulate(jittered, noisy(0.9, seed), until=120, status_every=0.5)
    assert truth.verdicts(since=3) == {"keeping_up"}


@mark.parametrize("fps", [10.0, 30.0])
@mark.parametrize("load", [0.95, 0.98, 1.0, 1.02, 1.05])
def test_noise_at_the_very_boundary_changes_the_verdict_a_few_times_in_five_minutes(load, fps):
    """Losses come in clusters there: a cluster is a short overload, but one every half minute is one long overload."""
    noise = random.Random(1)
    service = lambda now: load / fps * noise.uniform(0.7, 1.3)  # noqa: E731
    truth = simulate(paced(fps, 300, jitter=lambda: noise.uniform(0, 0.3 / fps)), service, until=300, status_every=1.0)
    assert len(truth.changes(since=3)) - 1 <= 9


@mark.parametrize("load", [1.1, 1.5, 3.0])
@mark.parametrize("calm", [0.5, 0.9])
def test_overload_and_relief_are_shown_within_two_seconds(load, calm):
    truth = simulate(paced(FPS, 60), lambda now: (load if 10 <= now < 30 else calm) / FPS, until=60, status_every=0.1)
    assert truth.when("keeping_up") <= 2.0
    assert truth.when("overloaded", since=10) <= 12.0
    assert truth.when("keeping_up", since=30) <= 32.0
    assert [verdict for _, verdict in truth.changes(since=2)] == ["keeping_up", "overloaded", "keeping_up"]


@mark.parametrize("load", [1.5, 3.0])
@mark.parametrize("fps", [10.0, 15.0])
def test_slow_cameras_and_changing_loads_are_followed_within_two_seconds(load, fps):
    service = lambda now: (load if int(now / 20) % 2 else 0.5) / fps  # noqa: E731
    truth = simulate(paced(fps, 100), service, until=100, status_every=0.1)
    for begun in (20, 60):
        assert truth.when("overloaded", since=begun) <= begun + 2.0
        assert truth.when("keeping_up", since=begun + 20) <= begun + 22.0
    assert len(truth.changes(since=3)) == 5


@mark.parametrize("calm", [0.5, 0.9])
@mark.parametrize("fps", [10.0, 15.0])
def test_a_little_too_much_is_shown_by_its_first_loss_where_waits_grew_steadily(fps, calm):
    service = lambda now: (1.1 if now >= 20 else calm) / fps  # noqa: E731
    truth = simulate(paced(fps, 60), service, until=60, status_every=0.1)
    assert truth.when("overloaded", since=20) <= 22.0
    assert [verdict for _, verdict in truth.changes(since=3)] == ["keeping_up", "overloaded"]


@mark.parametrize("fps", [10.0, 15.0])
def test_a_little_too_much_is_shown_in_spite_of_noise(fps):
    delays = []
    for seed in range(5):
        noise = random.Random(seed)
        service = lambda now: (1.1 if now >= 20 else 0.9) / fps * noise.uniform(0.9, 1.1)  # noqa: B023, E731
        jittered = paced(fps, 30, jitter=lambda: noise.uniform(0, 0.3 / fps))  # noqa: B023
        truth = simulate(jittered, service, until=30, status_every=0.1)
        assert truth.verdicts(since=3) - {"overloaded"} == {"keeping_up"}
        delays.append(truth.when("overloaded", since=20) - 20)
    assert sorted(delays)[2] <= 2.5
    assert max(delays) <= 5.0


def test_frames_that_come_too_old_are_shown_within_two_seconds_and_so_is_their_end():
    truth = simulate(
        paced(FPS, 40), constant(0.5), until=40, status_every=0.1, transport=lambda at: 1.4 if 10 <= at < 20 else 0.1
    )
    assert truth.when("falling_behind", since=10) <= 12.0
    assert truth.when("keeping_up", since=20) <= 22.0
    assert len(truth.changes(since=3)) == 3


def test_less_patience_shows_a_change_sooner():
    truth = simulate(
        paced(FPS, 30), lambda now: (3.0 if 10 <= now < 20 else 0.9) / FPS, until=30, settings=FAST, status_every=0.1
    )
    assert truth.when("overloaded", since=10) <= 11.0
    assert truth.when("keeping_up", since=20) <= 21.0


@mark.parametrize("load", [0.5, 0.9])
@mark.parametrize("jitter_seconds", [0.01, 0.06])
def test_jitter_and_variable_rate_are_not_lateness(load, jitter_seconds):
    noise = random.Random(7)
    jittered = paced(FPS, 40, jitter=lambda: noise.uniform(0, jitter_seconds))
    assert simulate(jittered, constant(load), until=40).verdicts(since=4) == {"keeping_up"}
    at, variable = 0.0, []
    while at < 40:
        at += noise.choice([0.5, 1, 1, 1, 1.5, 2]) * 1.1 / FPS
        variable.append(at)
    assert simulate(variable, constant(load), until=40).verdicts(since=4) == {"keeping_up"}


@mark.parametrize("stall_seconds", [0.5, 1.0, 1.4])
def test_burst_after_a_short_stall_is_no_overload(stall_seconds):
    on_time = list(paced(FPS, 30))
    held = 15 + stall_seconds
    arrivals = sorted(held + (at - 15) * 0.05 if 15 <= at < held else at for at in on_time)
    truth = simulate(arrivals, constant(0.6), until=30)
    assert truth.dropped_at, "the burst was meant to overflow the queue"
    assert truth.verdicts(since=4) == {"keeping_up"}
    assert truth.last.ledger.dropped_total == len(truth.dropped_at)


def test_silent_camera_stalls_and_recovers_after_frames_flowed_for_the_patience():
    arrivals = [*paced(FPS, 10), *paced(FPS, 30, start=16)]
    truth = simulate(arrivals, constant(0.5), until=30)
    assert [verdict for _, verdict in truth.changes(since=4)] == ["keeping_up", "stalled", "keeping_up"]
    assert truth.when("stalled") <= 10 + 1.5 + 0.25
    assert 17 <= truth.when("keeping_up", since=16) <= 18
    during = next(status for at, status in truth.statuses if at == 14.0)
    assert during.cause.startswith("camera delivers nothing for 4.0 s")
    assert during.cadence_fps == 0.0


def test_backlog_in_a_deep_queue_is_falling_behind_before_anything_is_lost():
    truth = simulate(paced(FPS, 20), constant(1.2), until=20, queue_frames=400, sheds=False)
    assert not truth.dropped_at
    assert truth.last.verdict == "falling_behind"
    assert truth.last.final.verdict == "falling_behind"


def test_frames_older_than_allowed_are_late_even_when_all_are_published():
    truth = simulate(paced(FPS, 20), constant(0.5), until=20, transport=lambda at: 1.4)
    assert truth.last.verdict == "falling_behind"
    assert truth.last.cause_stage == "camera"
    assert truth.last.cause.startswith("frames reach us 1.39 s after capture")


def test_age_that_grows_is_falling_behind_before_it_is_too_old():
    truth = simulate(paced(FPS, 14), constant(0.5), until=14, transport=lambda at: max(0.0, (at - 5) * 0.1))
    assert max(truth.ages) < 1.0
    assert truth.last.verdict == "falling_behind"


def test_detector_that_hangs_is_named():
    truth = simulate(paced(FPS, 25), lambda now: 1e6 if now > 10 else 0.01, until=25)
    assert truth.when("stalled") <= 12.0
    assert truth.last.verdict == "stalled"
    assert truth.last.cause.startswith("infer: nothing published for ")


def test_camera_that_delivers_less_than_usual_is_keeping_up_with_a_hint():
    truth = simulate([*paced(25, 20), *paced(12, 30, start=20)], constant(0.5), until=30)
    assert truth.last.verdict == "keeping_up"
    assert truth.last.cause == "camera delivers 12.0 fps, usually 25.0"


@mark.parametrize("epoch", [0.3, 1000.1, 4e6])
def test_origin_of_the_clock_changes_nothing(epoch):
    plain = simulate(paced(FPS, 20), constant(1.5), until=20).changes()
    moved = simulate(paced(FPS, 20), constant(1.5), until=20, epoch=epoch).changes()
    assert [verdict for _, verdict in moved] == [verdict for _, verdict in plain]
    assert [at for at, _ in moved] == approx([at for at, _ in plain], abs=0.5)


def test_condition_that_keeps_coming_back_is_left_ever_more_reluctantly():
    debounce, shown = Debounce(1.0, 1.0, 30.0), []
    for tick in range(600):
        now = tick / 10
        shown.append(debounce.update(now % 4 < 1.6, now))
    changes = sum(left != right for left, right in pairwise(shown))
    assert changes <= 5
    assert shown[-1]
