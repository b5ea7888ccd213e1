"""The last minutes as a page gets them: in order, bounded, and nothing twice."""

from __future__ import annotations

from dataclasses import replace

from pipeline.dashboard.history import STEP_SECONDS, History
from pipeline.keepup.meter import StreamMeter
from pipeline.keepup.settings import KeepupSettings
from pipeline.keepup.status import StreamStatus

POINTS = 30


def status_of(stream_id: str, fps: float, dropped: int = 0, verdict: str = "keeping_up") -> StreamStatus:
    """A stream's status with these figures."""
    meter = StreamMeter(stream_id, KeepupSettings(), live=True)
    status = meter.snapshot(0.0)
    ledger = replace(status.ledger, dropped={"infer": {"stale": dropped}})
    return replace(status, published_fps=fps, ledger=ledger, verdict=verdict, cause="why" if dropped else "")


def test_figures_and_drops_come_in_order_and_only_the_new_ones_are_asked_for():
    history = History(POINTS * STEP_SECONDS)
    for point in range(5):
        history.record([status_of("door", float(point), dropped=10 * point)], point * STEP_SECONDS)
    whole = history.read()
    assert whole["streams"]["door"]["published_fps"] == [0, 1, 2, 3, 4]
    assert whole["streams"]["door"]["dropped"] == {"stale": [0, 10, 10, 10, 10]}
    history.record([status_of("door", 5.0, dropped=40)], 5 * STEP_SECONDS)
    fresh = history.read(since=whole["next"])
    assert fresh["streams"]["door"]["published_fps"] == [5]
    assert fresh["streams"]["door"]["dropped"] == {}
    assert history.read(points=2)["streams"]["door"]["published_fps"] == [4, 5]


def test_what_is_older_than_it_keeps_is_forgotten():
    history = History(POINTS * STEP_SECONDS)
    for point in range(3 * POINTS):
        history.record([status_of("door", float(point), dropped=7 * point)], point * STEP_SECONDS)
    kept = history.read()
    assert kept["streams"]["door"]["published_fps"] == list(range(2 * POINTS, 3 * POINTS))
    assert kept["streams"]["door"]["dropped"] == {"stale": [7] * POINTS}
    assert kept["next"] - kept["first"] == kept["most_points"] == POINTS


def test_points_keep_their_distance_however_often_statuses_come():
    history = History(POINTS * STEP_SECONDS)
    for tenth in range(100):
        history.record([status_of("door", 1.0)], tenth * STEP_SECONDS / 10)
    assert history.read()["next"] == 10


def test_a_stream_that_comes_late_has_gaps_before_and_one_that_goes_is_gone():
    history = History(POINTS * STEP_SECONDS)
    for point, streams in enumerate((["door"], ["door", "yard"], ["yard"])):
        history.record([status_of(stream, 1.0) for stream in streams], point * STEP_SECONDS)
    streams = history.read()["streams"]
    assert list(streams) == ["yard"]
    assert streams["yard"]["published_fps"] == [None, 1.0, 1.0]
    assert streams["yard"]["verdict"] == [None, "keeping_up", "keeping_up"]


def test_changes_of_verdicts_and_what_people_did_come_once():
    history = History(POINTS * STEP_SECONDS)
    told, since = [], 0
    for point, verdict in enumerate(["starting", "keeping_up", "keeping_up", "overloaded"]):
        history.record([status_of("door", 1.0, dropped=point, verdict=verdict)], point * STEP_SECONDS)
        if point == 2:
            history.note("door", "changed: weight 2")
        answer = history.read(since=since)
        since = answer["next"]
        told += [(change.verdict, change.words) for change in answer["changes"]]
    assert told == [("starting", ""), ("keeping_up", "why"), (None, "changed: weight 2"), ("overloaded", "why")]
