"""What a message says, and that it says it the same to every sink."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.publish.jsonl_sink import JsonLinesSink
from pipeline.publish.messages import DetectionsMessage, Message, StatusMessage
from pipeline.publish.zmq_sink import ZmqSink
from pipeline.subscriber import Subscriber
from pipeline.track.tracker import CARRIED, CONFIRMED, TENTATIVE, Tracks
from tests.publish.examples import (
    collect,
    free_endpoint,
    join,
    make_publisher,
    make_result,
    make_status,
    sequences,
)


@dataclass
class KeepingSink:
    """Keeps what it is sent."""

    address: str = "keeping:"
    lost: int = 0
    messages: list[Message] = field(default_factory=list)
    closed: int = 0

    def send(self, message: DetectionsMessage | StatusMessage) -> None:
        self.messages.append(message)

    def flush(self) -> None:
        pass

    def tick(self) -> None:
        pass

    def close(self) -> None:
        self.closed += 1


def test_a_message_carries_the_frame_the_boxes_and_the_stage_times() -> None:
    result = make_result("gate", index=7, objects=3, captured_at=time.monotonic() - 0.5, damaged=True)
    message = make_publisher().publish(result, wait_seconds=0.25, track_seconds=0.125)

    assert (message.schema_version, message.stream_id, message.epoch, message.sequence) == (1, "gate", 1, 1)
    assert (message.frame_index, message.frame_width, message.frame_height) == (7, 640, 480)
    assert (message.model, message.capture_clock, message.damaged, message.inferred) == ("tiny", "arrival", True, True)
    assert 0.5 <= message.age_seconds < 5.0
    assert abs(message.published_utc - time.time()) < 5.0
    assert (message.stage_seconds.wait, message.stage_seconds.track) == (0.25, 0.125)
    assert message.stage_seconds.infer == result.infer_seconds
    assert [one.class_name for one in message.objects] == ["person", "bicycle", "car"]
    for one, xyxy, score in zip(message.objects, result.detections.xyxy, result.detections.scores, strict=True):
        assert one.xyxy == pytest.approx(xyxy, abs=0.005)
        assert one.score == pytest.approx(score, abs=0.00005)
        assert one.track_id is None


def test_a_turned_picture_is_described_upright() -> None:
    message = make_publisher().publish(make_result(rotation=90), wait_seconds=0.0)
    assert (message.frame_width, message.frame_height) == (480, 640)


def test_nothing_found_is_an_explicit_result() -> None:
    assert make_publisher().publish(make_result(objects=0), wait_seconds=0.0).objects == []


def test_a_class_without_a_name_goes_by_its_number() -> None:
    result = make_result(objects=1)
    result.detections.class_ids[0] = 99
    assert make_publisher().publish(result, wait_seconds=0.0).objects[0].class_name == "99"


def _some_tracks() -> Tracks:
    """Of two detections, the second is a confirmed track's and the first a tentative one's; the third is carried."""
    return Tracks(
        xyxy=np.array([[229, 286, 343, 400], [-5, 10, 20, 500], [0, 57, 114, 171]], np.float32),
        scores=np.array([0.3, 0.5, 0.9], np.float32),
        class_ids=np.array([1, 2, 0], np.int32),
        track_ids=np.array([12, 7, 13], np.int64),
        ages_seconds=np.array([1.5, 8.25, 0.0], np.float32),
        states=np.array([CONFIRMED, CARRIED, TENTATIVE], np.uint8),
        detection_index=np.array([1, -1, 0], np.int32),
    )


def test_objects_carry_their_tracks_and_carried_tracks_follow_within_the_picture() -> None:
    message = make_publisher().publish(make_result(objects=2), wait_seconds=0.0, tracks=_some_tracks())
    first, second, third = message.objects
    assert (first.track_id, first.track_age_seconds, first.track_state) == (None, None, "tentative")
    assert (second.track_id, second.track_age_seconds, second.track_state) == (12, 1.5, "confirmed")
    assert (third.track_id, third.track_age_seconds, third.track_state) == (7, 8.25, "carried")
    assert (third.xyxy, third.class_name) == ((0.0, 10.0, 20.0, 480.0), "car")


@settings(deadline=None)
@given(
    of_rows=st.lists(st.sampled_from([None, TENTATIVE, CONFIRMED]), max_size=6),
    carried=st.integers(0, 4),
    order=st.randoms(use_true_random=False),
)
def test_every_object_has_its_own_track_in_whatever_order_they_come(of_rows, carried, order) -> None:  # type: ignore[no-untyped-def]
    """``of_rows``: the state of the track that took each detection, None where no track did."""
    rows = [row for row, state in enumerate(of_rows) if state is not None] + [-1] * carried
    order.shuffle(rows)
    states = [CARRIED if row < 0 else of_rows[row] for row in rows]
    ids = [100 + place for place in range(len(rows))]
    tracks = Tracks(
        xyxy=np.array([[place, 1, place + 2, 3] for place in range(len(rows))], np.float32).reshape(-1, 4),
        scores=np.full(len(rows), 0.5, np.float32),
        class_ids=np.array([-1 if place % 2 else 3 for place in range(len(rows))], np.int32),
        track_ids=np.array(ids, np.int64),
        ages_seconds=np.array(ids, np.float32) / 8,
        states=np.array(states, np.uint8),
        detection_index=np.array(rows, np.int32),
    )
    result = make_result(objects=len(of_rows))
    objects = make_publisher().publish(result, wait_seconds=0.0, tracks=tracks).objects

    expected: list[tuple[object, ...]] = []
    for row, state in enumerate(of_rows):
        if state is None:
            expected.append((None, None, None))
        elif state == TENTATIVE:
            expected.append((None, None, "tentative"))
        else:
            track_id = ids[rows.index(row)]
            expected.append((track_id, track_id / 8, "confirmed"))
    places = [place for place, row in enumerate(rows) if row < 0]
    expected += [(ids[place], ids[place] / 8, "carried") for place in places]
    assert [(one.track_id, one.track_age_seconds, one.track_state) for one in objects] == expected
    found, follow = objects[: len(of_rows)], objects[len(of_rows) :]
    assert [one.xyxy for one in found] == [pytest.approx(box, abs=0.005) for box in result.detections.xyxy]
    assert [one.xyxy for one in follow] == [(place, 1, place + 2, 3) for place in places]
    assert [one.class_name for one in follow] == ["-1" if place % 2 else "3" for place in places]


def test_every_stream_counts_its_own_messages_and_statuses_carry_the_count() -> None:
    sink = KeepingSink()
    publisher = make_publisher(sink)
    for stream_id in ("a", "b", "a", "a"):
        publisher.publish(make_result(stream_id, epoch=4), wait_seconds=0.0)
    status = publisher.publish_status(make_status("a", epoch=0))

    assert [one.sequence for one in sink.messages if one.stream_id == "a"] == [1, 2, 3, 3]
    assert publisher.sequence("b") == 1
    assert status.epoch == 4
    assert publisher.sequence("never seen") == 0
    assert (status.schema_version, status.publisher, status.status_interval_seconds) == (1, publisher.id, 1.0)
    assert len(publisher.id) == 16
    assert publisher.id != make_publisher().id


@pytest.mark.parametrize("encode", [msgspec.msgpack.encode, msgspec.json.encode])
def test_no_numpy_scalar_is_left_in_a_message(encode) -> None:  # type: ignore[no-untyped-def]
    message = make_publisher().publish(make_result(objects=2), wait_seconds=0.0, tracks=_some_tracks())
    assert encode(message)  # msgspec refuses NumPy scalars


def test_two_sinks_get_the_same_messages(tmp_path) -> None:  # type: ignore[no-untyped-def]
    endpoint, path = free_endpoint(), tmp_path / "out.jsonl"
    publisher = make_publisher(ZmqSink(endpoint, "msgpack"), JsonLinesSink(str(path)))
    with Subscriber(endpoint) as subscriber:
        join(publisher, subscriber)
        for index in range(20):
            publisher.publish(make_result(index=index), wait_seconds=0.0)
        events = collect(subscriber, lambda events: len(sequences(events)) == 20)
    publisher.close()
    publisher.close()

    lines = [json.loads(line) for line in path.read_text().splitlines()]
    written = [line for line in lines if line["kind"] == "detections"]
    received = [msgspec.to_builtins(one) for one in events if isinstance(one, DetectionsMessage)]
    assert [json.loads(msgspec.json.encode(one)) for one in received] == written
    assert publisher.lost == {f"zmq:{endpoint}": 0, f"jsonl:{path}": 0}


def test_closing_twice_closes_sinks_once() -> None:
    sink = KeepingSink()
    publisher = make_publisher(sink)
    publisher.close()
    publisher.close()
    assert sink.closed == 1
