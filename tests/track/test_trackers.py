"""The contract of every tracker in the table."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.detections import Detections
from pipeline.errors import ConfigError
from pipeline.track import CARRIED, CONFIRMED, TENTATIVE, TRACKERS, Tracker, Tracks, open_tracker, update_many

STEP = 1 / 25
every_tracker = pytest.mark.parametrize("name", list(TRACKERS))


def found(*boxes: tuple[float, float, float, float], score: float = 0.9, class_id: int = 0) -> Detections:
    count = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.full(count, score, np.float32),
        np.full(count, class_id, np.int32),
    )


def see(tracker: Tracker, frame: Detections, seconds: float) -> Tracks:
    return tracker.update(frame.xyxy, frame.scores, frame.class_ids, seconds)


def box_at(x: float, y: float = 100.0) -> tuple[float, float, float, float]:
    return (x, y, x + 40.0, y + 100.0)


def scene(seed: int, frames: int, objects: int = 12) -> list[Detections]:
    """Objects of three classes that walk about and cross, with misses, noise, false alarms and doubtful scores."""
    random = np.random.default_rng(seed)
    centre, velocity = random.uniform(50.0, 400.0, (objects, 2)), random.normal(0.0, 3.0, (objects, 2))
    classes = random.integers(0, 3, objects)
    result = []
    for _ in range(frames):
        centre = centre + velocity
        seen = random.random(objects) > 0.15
        wrong = random.uniform(0.0, 450.0, (random.integers(0, 3), 2))
        low = np.concatenate([centre[seen] + random.normal(0.0, 1.0, (seen.sum(), 2)), wrong])
        xyxy = np.concatenate([low, low + np.array((40.0, 90.0))], axis=1).astype(np.float32)
        scores = random.choice([0.2, 0.4, 0.65, 0.8, 0.9], len(low)).astype(np.float32)
        class_ids = np.concatenate([classes[seen], random.integers(0, 3, len(wrong))]).astype(np.int32)
        result.append(Detections(xyxy, scores, class_ids))
    return result


def assert_same(one: Tracks, other: Tracks) -> None:
    for field in fields(Tracks):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name), err_msg=field.name)


@every_tracker
def test_an_object_keeps_its_id_and_is_confirmed_by_its_second_detection(name: str) -> None:
    tracker = open_tracker(name)
    see(tracker, found(), 0.0)
    seen = [see(tracker, found(box_at(100.0 + 3.0 * frame)), frame * STEP) for frame in range(1, 20)]
    assert {int(tracks.track_ids[0]) for tracks in seen} == {1}
    assert [int(tracks.states[0]) for tracks in seen] == [TENTATIVE] + [CONFIRMED] * 18
    assert seen[-1].ages_seconds[0] == pytest.approx(18 * STEP)
    assert seen[-1].xyxy[0] == pytest.approx(box_at(157.0), abs=3.0)


@every_tracker
def test_objects_of_an_epochs_first_frame_are_confirmed_at_once(name: str) -> None:
    assert see(open_tracker(name), found(box_at(0.0), box_at(300.0)), 5.0).states.tolist() == [CONFIRMED] * 2


@every_tracker
def test_arrays_have_the_promised_types_and_shapes(name: str) -> None:
    tracker = open_tracker(name)
    for frame, detections in enumerate([found(), found(box_at(10.0)), found(box_at(10.0), box_at(200.0)), found()]):
        for tracks in (see(tracker, detections, frame * STEP), tracker.predict((frame + 0.5) * STEP)):
            count = len(tracks)
            assert tracks.xyxy.shape == (count, 4) and tracks.xyxy.dtype == np.float32
            assert tracks.xyxy.flags.c_contiguous
            types = {field.name: getattr(tracks, field.name).dtype.name for field in fields(Tracks)[1:]}
            assert types == {
                "scores": "float32",
                "class_ids": "int32",
                "track_ids": "int64",
                "ages_seconds": "float32",
                "states": "uint8",
                "detection_index": "int32",
            }
            assert {getattr(tracks, field.name).shape for field in fields(Tracks)[1:]} == {(count,)}


@every_tracker
def test_detection_index_names_the_detection_that_was_taken(name: str) -> None:
    tracker = open_tracker(name)
    for frame, detections in enumerate(scene(3, 60)):
        tracks = see(tracker, detections, frame * STEP)
        taken = tracks.detection_index
        assert len(set(taken.tolist())) == len(taken)
        assert (taken >= 0).all()
        np.testing.assert_array_equal(tracks.class_ids, detections.class_ids[taken])
        np.testing.assert_array_equal(tracks.scores, detections.scores[taken])
        near = np.abs(tracks.xyxy - detections.xyxy[taken]).max(axis=1)
        assert (near < 40.0).all()


@every_tracker
def test_an_object_hidden_for_half_a_second_comes_back_as_itself(name: str) -> None:
    tracker = open_tracker(name)
    frames = [frame for frame in range(50) if not 20 <= frame < 32]
    ids = {int(see(tracker, found(box_at(100.0 + 2.0 * frame)), frame * STEP).track_ids[0]) for frame in frames}
    assert ids == {1}


@every_tracker
def test_an_object_gone_for_longer_than_lost_seconds_is_a_new_one(name: str) -> None:
    tracker = open_tracker(name, lost_seconds=1.0)
    for frame in range(10):
        see(tracker, found(box_at(100.0)), frame * STEP)
    assert len(see(tracker, found(), 1.6)) == 0
    back = see(tracker, found(box_at(100.0)), 1.7)
    assert back.track_ids.tolist() == [2]


@every_tracker
def test_a_tentative_track_that_is_missed_is_never_seen_again(name: str) -> None:
    tracker = open_tracker(name)
    see(tracker, found(), 0.0)
    assert see(tracker, found(box_at(100.0)), STEP).states.tolist() == [TENTATIVE]
    see(tracker, found(), 2 * STEP)
    assert see(tracker, found(box_at(100.0)), 3 * STEP).track_ids.tolist() == [2]


@every_tracker
def test_a_track_takes_only_detections_of_its_class(name: str) -> None:
    tracker = open_tracker(name)
    first = see(tracker, found(box_at(100.0), class_id=0), 0.0)
    second = see(tracker, found(box_at(100.0), class_id=2), STEP)
    assert first.track_ids.tolist() == [1] and second.track_ids.tolist() == [2]
    assert second.class_ids.tolist() == [2]


@every_tracker
def test_predict_carries_tracks_along_their_course_and_changes_nothing(name: str) -> None:
    tracker, untouched = open_tracker(name), open_tracker(name)
    for frame in range(0, 60, 3):
        detections = found(box_at(100.0 + 4.0 * frame))
        assert_same(see(tracker, detections, frame * STEP), see(untouched, detections, frame * STEP))
        for skipped in (1, 2):
            carried = tracker.predict((frame + skipped) * STEP)
            assert carried.track_ids.tolist() == [1]
            assert carried.states.tolist() == [CARRIED] and carried.detection_index.tolist() == [-1]
            if frame > 30:
                assert carried.xyxy[0] == pytest.approx(box_at(100.0 + 4.0 * (frame + skipped)), abs=2.0)


@every_tracker
def test_predict_leaves_out_tentative_and_lost_tracks(name: str) -> None:
    tracker = open_tracker(name)
    assert len(tracker.predict(1.0)) == 0
    see(tracker, found(box_at(0.0), box_at(200.0)), 0.0)
    see(tracker, found(box_at(0.0), box_at(400.0)), STEP)
    assert tracker.predict(2 * STEP).track_ids.tolist() == [1]


@every_tracker
def test_carry_seconds_reports_tracks_through_short_gaps(name: str) -> None:
    tracker = open_tracker(name, carry_seconds=0.1)
    for frame in range(10):
        see(tracker, found(box_at(100.0 + 5.0 * frame)), frame * STEP)
    short, long = see(tracker, found(), 10 * STEP), see(tracker, found(), 14 * STEP)
    assert short.states.tolist() == [CARRIED] and short.detection_index.tolist() == [-1]
    assert short.xyxy[0] == pytest.approx(box_at(150.0), abs=3.0)
    assert len(long) == 0


@every_tracker
def test_no_identity_returns_after_a_reset(name: str) -> None:
    tracker = open_tracker(name)
    before = see(tracker, found(box_at(0.0), box_at(200.0)), 100.0).track_ids.tolist()
    tracker.reset()
    assert len(tracker.predict(1.0)) == 0
    after = see(tracker, found(box_at(0.0), box_at(200.0)), 0.0)
    assert not set(before) & set(after.track_ids.tolist())
    assert after.states.tolist() == [CONFIRMED] * 2


@every_tracker
def test_every_third_frame_at_irregular_times_keeps_identities(name: str) -> None:
    random = np.random.default_rng(1)
    tracker, seconds, ids = open_tracker(name), 0.0, set()
    for _ in range(60):
        seconds += float(random.uniform(1.0, 5.0)) * STEP
        tracks = see(tracker, found(box_at(100.0 + 60.0 * seconds), box_at(900.0 - 60.0 * seconds, 400.0)), seconds)
        ids.add(tuple(tracks.track_ids.tolist()))
    assert ids == {(1, 2)}


@every_tracker
@pytest.mark.parametrize("odd_time", [0.0, 0.5, -3.0])
def test_a_time_that_does_not_rise_counts_as_the_smallest_step(name: str, odd_time: float) -> None:
    tracker = open_tracker(name)
    see(tracker, found(box_at(100.0)), 0.5)
    again = see(tracker, found(box_at(101.0)), odd_time)
    assert again.track_ids.tolist() == [1]
    assert 0.0 < again.ages_seconds[0] < 0.01
    assert np.isfinite(again.xyxy).all()
    assert len(tracker.predict(odd_time)) == 1


@every_tracker
def test_a_time_that_is_not_finite_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="finite"):
        see(open_tracker(name), found(), float("nan"))


@every_tracker
def test_boxes_that_are_empty_or_not_finite_are_never_tracked(name: str) -> None:
    nan, inf = float("nan"), float("inf")
    odd = found((5, 5, 5, 9), (9, 9, 1, 1), (nan, 0, 9, 9), (0, 0, inf, 9), (-inf, -inf, inf, inf), box_at(100.0))
    tracks = see(open_tracker(name), odd, 0.0)
    assert tracks.detection_index.tolist() == [5]


@every_tracker
def test_arrays_of_different_lengths_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"\[N, 4\]"):
        open_tracker(name).update(np.zeros((2, 4), np.float32), np.zeros(3, np.float32), np.zeros(2, np.int32), 0.0)


@every_tracker
def test_a_thousand_detections_a_frame_are_tracked_and_state_stays_bounded(name: str) -> None:
    random = np.random.default_rng(0)
    tracker = open_tracker(name, max_tracks=1200)
    for frame in range(6):
        low = random.uniform(0.0, 2000.0, (1000, 2))
        boxes = np.concatenate([low, low + np.array((30.0, 60.0))], axis=1).astype(np.float32)
        tracks = tracker.update(boxes, np.full(1000, 0.9, np.float32), np.zeros(1000, np.int32), frame * STEP)
        assert len(set(tracks.track_ids.tolist())) == len(tracks) <= 1000
        assert tracker._state.shape[1] <= 1200  # type: ignore[attr-defined]


@every_tracker
def test_a_thousand_boxes_in_one_place_end_in_time(name: str) -> None:
    random = np.random.default_rng(0)
    tracker = open_tracker(name)
    for frame in range(2):
        low = random.uniform(0.0, 10.0, (300, 2))
        boxes = np.concatenate([low, low + np.array((300.0, 600.0))], axis=1).astype(np.float32)
        tracks = tracker.update(boxes, np.full(300, 0.9, np.float32), np.zeros(300, np.int32), frame * STEP)
    assert len(set(tracks.detection_index.tolist())) == 300


@every_tracker
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_order_of_detections_does_not_matter(name: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    one, other = open_tracker(name), open_tracker(name)
    for frame, detections in enumerate(scene(seed, 12)):
        order = random.permutation(len(detections))
        shuffled = Detections(detections.xyxy[order], detections.scores[order], detections.class_ids[order])
        expected, got = see(one, detections, frame * STEP), see(other, shuffled, frame * STEP)
        np.testing.assert_array_equal(got.track_ids, expected.track_ids)
        np.testing.assert_array_equal(got.xyxy, expected.xyxy)
        np.testing.assert_array_equal(order[got.detection_index], expected.detection_index)


@every_tracker
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_ids_are_unique_and_new_ones_only_rise(name: str, seed: int) -> None:
    tracker, highest = open_tracker(name), 0
    for frame, detections in enumerate(scene(seed, 15)):
        ids = see(tracker, detections, frame * STEP).track_ids.tolist()
        assert len(set(ids)) == len(ids)
        new = [track_id for track_id in ids if track_id > highest]
        assert new == sorted(new)
        highest = max([highest, *new])
        if frame == 9:
            tracker.reset()


@every_tracker
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), streams=st.integers(1, 5), crowd=st.booleans())
def test_streams_updated_together_give_what_each_gives_alone(name: str, seed: int, streams: int, crowd: bool) -> None:
    alone, together = [open_tracker(name) for _ in range(streams)], [open_tracker(name) for _ in range(streams)]
    sizes = [90 if crowd and stream == 0 else 2 + 3 * stream for stream in range(streams)]
    scenes = [scene(seed + stream, 12, size) for stream, size in enumerate(sizes)]
    for frame in range(12):
        detections = [frames[frame] if (frame + index) % 5 else found() for index, frames in enumerate(scenes)]
        seconds = [frame * STEP * (1 + index) for index in range(streams)]
        expected = [see(*each) for each in zip(alone, detections, seconds, strict=True)]
        for got, wanted in zip(update_many(together, detections, seconds), expected, strict=True):
            assert_same(got, wanted)


def test_unlike_trackers_are_updated_together_too() -> None:
    kinds = [("bytetrack", {}), ("ocsort", {}), ("bytetrack", {"confirm_hits": 3}), ("ocsort", {})]
    alone, together = ([open_tracker(name, **options) for name, options in kinds] for _ in range(2))
    for frame, detections in enumerate(scene(8, 20)):
        expected = [see(tracker, detections, frame * STEP) for tracker in alone]
        for got, wanted in zip(update_many(together, [detections] * 4, [frame * STEP] * 4), expected, strict=True):
            assert_same(got, wanted)


def test_one_tracker_cannot_take_two_frames_of_a_batch() -> None:
    tracker = open_tracker("bytetrack")
    with pytest.raises(ValueError, match="named twice"):
        update_many([tracker, tracker], [found(), found()], [0.0, 1.0])


def test_an_unknown_tracker_is_named_with_those_that_exist() -> None:
    with pytest.raises(ConfigError, match=r"'sort'.*bytetrack, ocsort"):
        open_tracker("sort")


def test_bytetrack_prolongs_a_track_with_doubtful_detections_but_starts_none() -> None:
    tracker = open_tracker("bytetrack")
    see(tracker, found(box_at(100.0)), 0.0)
    doubtful = [see(tracker, found(box_at(100.0), box_at(500.0), score=0.3), frame * STEP) for frame in range(1, 10)]
    assert all(tracks.track_ids.tolist() == [1] for tracks in doubtful)


def test_ocsort_tells_crossing_objects_apart_by_their_direction() -> None:
    tracker = open_tracker("ocsort")
    for frame in range(40):
        left, right = box_at(100.0 + 6.0 * frame), box_at(340.0 - 6.0 * frame, 104.0)
        tracks = see(tracker, found(left, right), frame * STEP)
    by_id = dict(zip(tracks.track_ids.tolist(), tracks.detection_index.tolist(), strict=True))
    first = see(open_tracker("ocsort"), found(box_at(100.0), box_at(340.0, 104.0)), 0.0)
    assert by_id == dict(zip(first.track_ids.tolist(), first.detection_index.tolist(), strict=True))
