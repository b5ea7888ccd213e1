"""The client notices everything that did not arrive."""

from __future__ import annotations

import time

import msgspec
import pytest
import zmq

from pipeline.errors import UrlError
from pipeline.publish.messages import DetectionsMessage, StatusMessage
from pipeline.publish.zmq_sink import ZmqSink
from pipeline.subscriber import (
    Gap,
    PublisherEnded,
    PublisherGone,
    PublisherRestarted,
    SchemaVersionError,
    Subscriber,
)
from tests.publish.examples import (
    collect,
    free_endpoint,
    join,
    make_publisher,
    make_result,
    make_status,
    sequences,
)


def test_a_restart_is_told_and_what_was_missed_of_the_new_run_is_a_gap() -> None:
    endpoint = free_endpoint()
    first = make_publisher(ZmqSink(endpoint, "msgpack"))
    with Subscriber(endpoint) as subscriber:
        join(first, subscriber)
        first.publish(make_result(), wait_seconds=0.0)
        collect(subscriber, lambda events: sequences(events) == [1])
        first.close()

        second = make_publisher(ZmqSink(endpoint, "msgpack"))
        for index in range(5):
            second.publish(make_result(index=index), wait_seconds=0.0)
        second.publish_status(make_status())
        events = collect(subscriber, lambda events: any(isinstance(one, StatusMessage) for one in events), serve=second)
        second.close()
    assert events[0] == PublisherRestarted(first.id, second.id)
    arrived = sequences(events)
    missing = [one for one in events if isinstance(one, Gap)]
    assert missing == [Gap("lobby", 1, 5 - len(arrived))]


def test_a_loss_at_the_end_shows_in_the_next_status() -> None:
    endpoint = free_endpoint()
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket, Subscriber(endpoint) as subscriber:
        socket.bind(endpoint)
        socket.recv()
        socket.recv()
        made = make_publisher()
        message = made.publish(make_result(), wait_seconds=0.0)
        for _ in range(3):
            made.publish(make_result(), wait_seconds=0.0)  # never sent
        socket.send_multipart([b"detections/lobby", msgspec.msgpack.encode(message)])
        socket.send_multipart([b"status/lobby", msgspec.msgpack.encode(made.publish_status(make_status()))])
        events = collect(subscriber, lambda events: isinstance(events[-1] if events else None, StatusMessage))
    assert events[1] == Gap("lobby", 2, 4)
    assert subscriber.counts["lobby"].lost == 3


def test_silence_of_three_status_intervals_means_gone_and_a_return_is_noticed() -> None:
    endpoint = free_endpoint()
    publisher = make_publisher(ZmqSink(endpoint, "msgpack"), status_interval=0.2)
    with Subscriber(endpoint) as subscriber:
        join(publisher, subscriber)
        started = time.monotonic()
        (gone,) = collect(subscriber, lambda events: bool(events), within_seconds=3)
        assert isinstance(gone, PublisherGone)
        assert gone.publisher == publisher.id
        assert gone.stream_ids == ("lobby",)
        assert 0.5 <= time.monotonic() - started <= 2.0
        assert subscriber.receive(0.8) is None, "gone is told once"
        publisher.publish(make_result(), wait_seconds=0.0)
        collect(subscriber, lambda events: sequences(events) == [1])
    publisher.close()


def test_a_pause_of_the_subscriber_itself_is_not_taken_for_the_publishers() -> None:
    endpoint = free_endpoint()
    publisher = make_publisher(ZmqSink(endpoint, "msgpack"), status_interval=0.1)
    with Subscriber(endpoint) as subscriber:
        join(publisher, subscriber)
        for index in range(10):
            publisher.publish(make_result(index=index), wait_seconds=0.0)
            time.sleep(0.08)
        events = collect(subscriber, lambda events: len(sequences(events)) == 10)
    publisher.close()
    assert not [one for one in events if isinstance(one, PublisherGone)]


def test_the_end_of_all_streams_is_told_but_not_of_some() -> None:
    endpoint = free_endpoint()
    publisher = make_publisher(ZmqSink(endpoint, "msgpack"))
    with Subscriber(endpoint) as subscriber:
        join(publisher, subscriber, "a")
        join(publisher, subscriber, "b")
        publisher.publish_status(make_status("a", verdict="ended", in_flight=0))
        assert isinstance(subscriber.receive(1.0), StatusMessage)
        assert subscriber.receive(1.0) is None
        publisher.publish_status(make_status("b", verdict="ended", in_flight=0))
        events = collect(subscriber, lambda events: isinstance(events[-1] if events else None, PublisherEnded))
        assert set(events[-1].stream_ids) == {"a", "b"}
        publisher.close()
        assert subscriber.receive(3.2) is None, "after the end, silence is no news"


def test_only_the_streams_asked_for_arrive_although_topics_match_by_prefix() -> None:
    endpoint = free_endpoint()
    publisher = make_publisher(ZmqSink(endpoint, "json"))
    with Subscriber(endpoint, streams=["cam1"]) as subscriber:
        publisher.publish_status(make_status("cam10"))
        join(publisher, subscriber, "cam1")
        for stream_id in ("cam10", "other", "cam1"):
            publisher.publish(make_result(stream_id), wait_seconds=0.0)
        events = collect(subscriber, lambda events: sequences(events, "cam1") == [1])
    publisher.close()
    assert {one.stream_id for one in events} == {"cam1"}


def test_what_cannot_be_read_is_counted_and_does_no_harm() -> None:
    endpoint = free_endpoint()
    good = make_publisher().publish(make_result(), wait_seconds=0.0)
    garbage = [[b"detections/x"], [b"detections/x", b"", b""], *([b"detections/x", payload] for payload in _GARBAGE)]
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket, Subscriber(endpoint) as subscriber:
        socket.bind(endpoint)
        socket.recv()
        socket.recv()
        for parts in garbage:
            socket.send_multipart(parts)
        socket.send_multipart([b"detections/lobby", msgspec.json.encode(good)])
        events = collect(subscriber, bool)
    assert events == [good]
    assert subscriber.malformed == len(garbage)


_GARBAGE = [
    b"",
    b"{",
    b"{}",
    b"\xff\xfe",
    b"\x81\xa4kind\xa6status",
    b'{"kind": "detections", "schema_version": 1}',
    b'{"kind": "\xff"}',
    b'{"kind": "nonsense", "schema_version": 1}',
    b"[" * 5000,
    b"\x91" * 5000,
    b'{"a":' * 5000,
]


@pytest.mark.parametrize("encode", [msgspec.msgpack.encode, msgspec.json.encode])
def test_another_schema_version_is_an_error_once(encode) -> None:  # type: ignore[no-untyped-def]
    endpoint = free_endpoint()
    good = make_publisher().publish(make_result(), wait_seconds=0.0)
    newer = {"kind": "detections", "schema_version": 2, "something": "else"}
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket, Subscriber(endpoint) as subscriber:
        socket.bind(endpoint)
        socket.recv()
        socket.recv()
        for message in (newer, newer, msgspec.structs.replace(good, schema_version=3), good):
            socket.send_multipart([b"detections/lobby", encode(message)])
        with pytest.raises(SchemaVersionError, match="version 2; this subscriber reads version 1"):
            collect(subscriber, bool)
        assert collect(subscriber, bool) == [good]
    assert subscriber.other_version == 3


def test_it_can_be_iterated_until_closed_and_close_is_safe_twice() -> None:
    endpoint = free_endpoint()
    publisher = make_publisher(ZmqSink(endpoint, "msgpack"))
    with Subscriber(endpoint) as subscriber:  # left open by a failure, it would stop the collector for ever
        join(publisher, subscriber)
        publisher.publish(make_result(), wait_seconds=0.0)
        for event in subscriber:
            assert isinstance(event, DetectionsMessage)
            subscriber.close()
            subscriber.close()
    publisher.close()


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:99999", "tcp://*:5555", "nonsense"])
def test_a_bad_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(UrlError):
        Subscriber(endpoint)
