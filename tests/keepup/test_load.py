from __future__ import annotations

import ast
import threading
from pathlib import Path

from pytest import approx, mark

import pipeline.keepup
from pipeline.keepup.load import BusyClock


@mark.parametrize("share", [0.1, 0.5, 0.99])
@mark.parametrize("work_seconds", [0.01, 0.3, 2.0])
def test_utilisation_is_the_share_of_time_spent_working(share, work_seconds):
    busy, at = BusyClock(5.0), 100.0
    while at < 130:
        busy.add(at, at + work_seconds)
        at += work_seconds / share
    if work_seconds < 1:
        assert busy.utilisation(at) == approx(share, abs=0.06)
    assert busy.utilisation(at + 10) == 0.0


def test_pool_is_busy_only_when_all_its_workers_are():
    busy = BusyClock(5.0, workers=4)
    for at in range(200):
        busy.add(at * 0.05, at * 0.05 + 0.05)
    assert busy.utilisation(10.0) == approx(0.25, abs=0.02)


@mark.parametrize("window_seconds", [0.7, 2.0, 3.0, 4.0, 5.0, 6.0])
@mark.parametrize("run_seconds", [0.013, 0.12, 0.35])
def test_no_work_is_lost_at_the_edges_of_sub_windows_of_any_length(window_seconds, run_seconds):
    busy, at = BusyClock(window_seconds, workers=2), 1000.0
    for _ in range(400):
        at += run_seconds / 2
        busy.add(at - run_seconds, at)  # two workers, always at it
    assert busy.utilisation(at) == approx(1.0, abs=0.02 + run_seconds / window_seconds / 2)


def test_work_that_has_not_ended_counts():
    now = [50.0]
    busy = BusyClock(5.0, clock=lambda: now[0])
    with busy.working():
        assert busy.utilisation(53.0) == approx(1.0)
        now[0] = 54.0
    assert busy.utilisation(54.0) == approx(1.0, abs=0.01)
    assert busy.utilisation(56.0) == approx(0.6, abs=0.1)


def test_many_workers_may_report_at_once():
    busy = BusyClock(5.0, workers=8)

    def work(worker: int) -> None:
        for step in range(400):
            busy.add(step * 0.01, step * 0.01 + 0.005)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert busy.utilisation(4.0) == approx(0.5, abs=0.01)


def test_no_clock_but_the_monotonic_one_is_known_in_the_room():
    room = Path(pipeline.keepup.__file__).parent
    for file in room.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                assert not {alias.name for alias in node.names} & {"time", "datetime"}, file.name
            if isinstance(node, ast.ImportFrom) and node.module == "pipeline.clock":
                assert [alias.name for alias in node.names] == ["monotonic"] and file.name == "load.py"
