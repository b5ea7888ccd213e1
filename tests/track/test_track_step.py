"""The track stage: many streams, epochs, and doubtful boxes that only trackers may see."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.detections import Detections
from pipeline.infer.batch import InferredFrame
from pipeline.track import CONFIRMED, TRACKERS, open_tracker
from pipeline.track.track_step import TrackedFrame, TrackStep
from pipeline.track.tracker import fit_scores
from tests.publish.examples import make_result

THRESHOLD = 0.25
Found = list[tuple[float, float]]  # left edge and score of each box


def frame(stream_id: str, index: int, found: Found, epoch: int = 1) -> InferredFrame:
    result = make_result(stream_id, index, objects=0, epoch=epoch)
    boxes = np.array([(x, 100.0, x + 40.0, 200.0) for x, _ in found], np.float32).reshape(-1, 4)
    scores = np.array([score for _, score in found], np.float32)
    detections = Detections(boxes, scores, np.zeros(len(found), np.int32))
    return InferredFrame(result.frame, detections, 0.0, 0.0, 0.0)


def ids(tracked: TrackedFrame) -> list[int | None]:
    """Identity by detection, in their order."""
    owner: dict[int, int] = {}
    if tracked.tracks is not None:
        owner = dict(zip(tracked.tracks.detection_index.tolist(), tracked.tracks.track_ids.tolist(), strict=True))
    return [owner.get(row) for row in range(len(tracked.inferred.detections))]


def test_doubtful_boxes_go_on_with_a_confirmed_track_and_are_else_left_out() -> None:
    step = TrackStep.open({"a": "bytetrack"}, score_threshold=THRESHOLD)
    (sure,) = step([frame("a", 0, [(100.0, 0.9), (300.0, 0.15)])])
    assert ids(sure) == [1]
    (fading,) = step([frame("a", 1, [(300.0, 0.2), (102.0, 0.15), (400.0, 0.12)])])
    assert fading.inferred.detections.scores.tolist() == pytest.approx([0.15])
    assert ids(fading) == [1]
    assert fading.tracks is not None and fading.tracks.states.tolist() == [CONFIRMED]


def test_streams_without_a_tracker_get_no_doubtful_boxes_and_cost_nothing() -> None:
    step = TrackStep.open({"a": "bytetrack", "b": "off"}, score_threshold=THRESHOLD)
    (plain,) = step([frame("b", 0, [(100.0, 0.9), (300.0, 0.15)])])
    assert plain.inferred.detections.scores.tolist() == pytest.approx([0.9])
    assert (plain.tracks, plain.seconds) == (None, 0.0)


def test_the_least_score_is_what_some_tracker_looks_at() -> None:
    def least(**names: str) -> float:
        return TrackStep.open(names, score_threshold=THRESHOLD).least_score

    assert least(a="off") == least(a="ocsort") == least() == THRESHOLD
    assert least(a="ocsort", b="bytetrack") == 0.1
    assert TrackStep.open({"a": "bytetrack"}, score_threshold=0.05).least_score == 0.05


def test_a_new_epoch_brings_new_identities() -> None:
    step = TrackStep.open({"a": "bytetrack"}, score_threshold=THRESHOLD)
    given_ids = [ids(one) for epoch in (1, 2) for one in step([frame("a", n, [(100.0, 0.9)], epoch) for n in range(3)])]
    assert given_ids == [[1], [1], [1], [2], [2], [2]]


@pytest.mark.parametrize("name", list(TRACKERS))
def test_frames_together_give_what_each_alone_gives_in_order(name: str) -> None:
    random = np.random.default_rng(3)
    batch = []
    for number in range(40):
        for stream_id in random.permutation(["a", "b", "c", "a2"])[: random.integers(1, 5)].tolist():
            scores = random.choice([0.15, 0.5, 0.9], 3)
            batch.append(frame(stream_id, number, [(100.0 * k + number, float(s)) for k, s in enumerate(scores)]))
            batch.append(frame(stream_id, number + 100, []))
    names = {"a": name, "b": name, "c": "ocsort"}
    alone, together = (TrackStep.open(names, score_threshold=THRESHOLD) for _ in range(2))
    one_by_one = [next(iter(alone([one]))) for one in batch]
    at_once = list(together(batch))
    assert [one.inferred.frame for one in at_once] == [one.frame for one in batch]
    assert [ids(one) for one in at_once] == [ids(one) for one in one_by_one]


@given(
    name=st.sampled_from(list(TRACKERS)),
    threshold=st.floats(0.0, 1.0),
    wanted=st.none() | st.floats(0.0, 1.0),
)
def test_scores_fit_any_threshold(name: str, threshold: float, wanted: float | None) -> None:
    scores = fit_scores(name, threshold, wanted)
    assert threshold <= scores["high_score"] <= scores["new_track_score"] <= 1.0
    if wanted is not None and wanted >= threshold:
        assert scores["new_track_score"] == wanted
    open_tracker(name, **scores)


def test_scores_at_the_usual_threshold_are_the_measured_ones() -> None:
    assert fit_scores("bytetrack", 0.25) == pytest.approx({"high_score": 0.4, "new_track_score": 0.625})
    assert fit_scores("ocsort", 0.25) == pytest.approx({"high_score": 0.25, "new_track_score": 0.625})
