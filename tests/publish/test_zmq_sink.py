"""ZeroMQ delivery over real sockets."""

from __future__ import annotations

import os
import signal
import socket as sockets
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import zmq

from pipeline.errors import UrlError
from pipeline.publish.messages import DetectionsMessage, StatusMessage
from pipeline.publish.sink import open_sink
from pipeline.publish.zmq_sink import ZmqSink
from pipeline.subscriber import Gap, Subscriber
from tests.publish.examples import (
    collect,
    free_endpoint,
    free_port,
    join,
    make_publisher,
    make_result,
    make_status,
    sequences,
)

BULK = 300  # objects: about 36 kB a message, so that kernel buffers fill at once


@pytest.mark.parametrize("encoding", ["msgpack", "json"])
@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_messages_arrive_whole_and_in_order(encoding, transport, tmp_path) -> None:  # type: ignore[no-untyped-def]
    endpoint = free_endpoint() if transport == "tcp" else f"ipc://{tmp_path}/results.sock"
    publisher = make_publisher(open_sink(f"zmq:{endpoint}", encoding))
    with Subscriber(endpoint) as subscriber:
        join(publisher, subscriber)
        sent = [publisher.publish(make_result(index=index), wait_seconds=0.0) for index in range(200)]
        events = collect(subscriber, lambda events: len(sequences(events)) == 200)
    publisher.close()
    assert [one for one in events if isinstance(one, DetectionsMessage)] == sent
    assert not [one for one in events if isinstance(one, Gap)]


def test_the_topic_is_kind_and_stream(tmp_path: Path) -> None:
    endpoint = free_endpoint()
    publisher = make_publisher(ZmqSink(endpoint, "json"))
    with zmq.Context() as context, context.socket(zmq.SUB) as plain:
        plain.subscribe("")
        plain.connect(endpoint)
        publisher.publish_status(make_status("gate"))
        while not plain.poll(20):
            publisher.tick()
        publisher.publish(make_result("gate"), wait_seconds=0.0)
        topics = set()
        while len(topics) < 2 and plain.poll(5000):
            topics.add(plain.recv_multipart()[0])
    publisher.close()
    assert topics == {b"status/gate", b"detections/gate"}


def test_a_late_joiner_gets_the_state_of_every_stream_at_once() -> None:
    endpoint = free_endpoint()
    publisher = make_publisher(ZmqSink(endpoint, "msgpack"))
    for index in range(9):
        publisher.publish_status(make_status("gate"))
        publisher.publish_status(make_status("lobby", verdict="overloaded"))
        publisher.publish(make_result("gate", index), wait_seconds=0.0)
    started = time.monotonic()
    with Subscriber(endpoint) as subscriber:
        events = collect(
            subscriber,
            lambda events: {one.stream_id for one in events if isinstance(one, StatusMessage)} == {"gate", "lobby"},
            within_seconds=0.5,
            serve=publisher,
        )
        assert time.monotonic() - started <= 0.5
        verdicts = {one.stream_id: one.verdict for one in events if isinstance(one, StatusMessage)}
        assert verdicts == {"gate": "keeping_up", "lobby": "overloaded"}

        # What was published before it came is not a loss of the joiner's.
        publisher.publish(make_result("gate", 9), wait_seconds=0.0)
        later = collect(subscriber, lambda events: sequences(events, "gate") == [10])
        assert not [one for one in events + later if isinstance(one, Gap)]
    publisher.close()


def test_a_late_joiner_of_one_stream_wakes_only_that_stream() -> None:
    endpoint = free_endpoint()
    publisher = make_publisher(ZmqSink(endpoint, "msgpack"))
    with zmq.Context() as context, context.socket(zmq.SUB) as watcher:
        watcher.subscribe("status/")
        publisher.publish_status(make_status("gate"))
        publisher.publish_status(make_status("lobby"))
        watcher.connect(endpoint)
        while not watcher.poll(20):
            publisher.tick()
        while watcher.poll(200):
            watcher.recv_multipart()
        with Subscriber(endpoint, streams=["lobby"]) as subscriber:
            collect(subscriber, lambda events: len(events) == 1, serve=publisher)
        woken = set()
        while watcher.poll(200):
            woken.add(watcher.recv_multipart()[0])
    publisher.close()
    assert woken == {b"status/lobby"}


def test_a_slow_subscriber_loses_alone_and_sees_exactly_what() -> None:
    endpoint = free_endpoint()
    publisher = make_publisher(ZmqSink(endpoint, "msgpack", send_queue_messages=20))
    total = 600
    with Subscriber(endpoint, queue_messages=10) as slow, Subscriber(endpoint) as fast:
        join(publisher, slow)
        join(publisher, fast)
        fast_events = []
        for index in range(total):
            publisher.publish(make_result(index=index, objects=BULK), wait_seconds=0.0)
            fast_events += collect(fast, lambda events, index=index: index + 1 in sequences(events))
        publisher.publish_status(make_status())
        slow_events = []
        while slow.counts["lobby"].last_sequence < total:
            publisher.publish_status(make_status())  # once it reads again there is room for it
            slow_events += collect(slow, bool, within_seconds=10)
    publisher.close()

    assert sequences(fast_events) == list(range(1, total + 1))
    missing = [
        number
        for one in slow_events
        if isinstance(one, Gap)
        for number in range(one.first_missing, one.last_missing + 1)
    ]
    assert missing, "the subscriber was meant to be slow"
    assert sorted(sequences(slow_events) + missing) == list(range(1, total + 1))
    assert slow.counts["lobby"].lost == len(missing)


def test_ten_stopped_subscribers_do_not_block(tmp_path: Path) -> None:
    endpoint = free_endpoint()
    sink = ZmqSink(endpoint, "msgpack")
    publisher = make_publisher(sink)
    script = (
        "import sys, zmq; s = zmq.Context().socket(zmq.SUB); s.subscribe(''); s.connect(sys.argv[1])\nwhile 1: s.recv()"
    )
    children = [subprocess.Popen([sys.executable, "-c", script, endpoint]) for _ in range(10)]
    try:
        _wait_for_connections(int(endpoint.rsplit(":", 1)[1]), 10)
        for child in children:
            child.send_signal(signal.SIGSTOP)
        results = [make_result(index=index, objects=20) for index in range(4000)]
        memory_before = psutil.Process().memory_info().rss
        longest = 0.0
        for result in results:
            started = time.perf_counter()
            publisher.publish(result, wait_seconds=0.0)
            longest = max(longest, time.perf_counter() - started)
        grown = psutil.Process().memory_info().rss - memory_before
        started = time.monotonic()
        publisher.close()
        closing = time.monotonic() - started
    finally:
        for child in children:
            child.kill()
            child.wait()
    assert longest < 0.25  # a send is 40 microseconds; the rest is what a shared machine may add
    assert grown < 40 * 1024 * 1024
    assert closing < 3.0
    assert sink.lost == 0


def test_a_second_pipeline_on_the_same_port_is_refused_with_advice() -> None:
    endpoint = free_endpoint()
    first = ZmqSink(endpoint, "msgpack")
    with pytest.raises(UrlError, match="in use by another process"):
        ZmqSink(endpoint, "msgpack")
    first.close()
    ZmqSink(endpoint, "msgpack").close()


def test_a_second_pipeline_on_the_same_ipc_path_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.sock"
    first = ZmqSink(f"ipc://{path}", "msgpack")
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    with pytest.raises(UrlError, match="in use by another process"):
        ZmqSink(f"ipc://{path}", "msgpack")
    first.close()
    assert not path.exists()


def test_a_socket_left_by_a_killed_pipeline_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "results.sock"
    script = (
        "import sys, zmq, os, signal; s = zmq.Context().socket(zmq.XPUB); s.bind(sys.argv[1]); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, f"ipc://{path}"], check=False)
    assert path.exists()
    ZmqSink(f"ipc://{path}", "msgpack").close()


def test_an_ordinary_file_is_never_replaced_by_a_socket(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("keep me")
    with pytest.raises(UrlError, match="is no socket"):
        ZmqSink(f"ipc://{path}", "msgpack")
    assert path.read_text() == "keep me"


def test_two_pipelines_run_side_by_side_and_close_apart() -> None:
    endpoints = [free_endpoint(), free_endpoint()]
    publishers = [make_publisher(ZmqSink(endpoint, "msgpack")) for endpoint in endpoints]
    publishers[0].close()
    with Subscriber(endpoints[1]) as subscriber:
        join(publishers[1], subscriber)
    publishers[1].close()


def test_a_frame_larger_than_any_subscription_gets_its_sender_cut_off() -> None:
    port = free_port()
    endpoint = f"tcp://127.0.0.1:{port}"
    publisher = make_publisher(ZmqSink(endpoint, "msgpack"))
    # By hand, because libzmq's own SUB overflows its stack on such a topic: greeting, READY, one 8 MB subscription.
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
    ready = b"\x05READY\x0bSocket-Type\0\0\0\x03SUB"
    topic = b"\x01" + b"x" * 8_000_000
    subscription = b"\x02" + len(topic).to_bytes(8, "big") + topic
    memory_before = psutil.Process().memory_info().rss
    with Subscriber(endpoint) as honest:
        join(publisher, honest)
        with sockets.create_connection(("127.0.0.1", port), timeout=5) as stranger:
            stranger.sendall(greeting + b"\x04" + bytes([len(ready)]) + ready)
            assert stranger.recv(1), "the publisher was meant to greet back"
            time.sleep(0.2)
            with pytest.raises(OSError, match=r"reset|pipe"):
                stranger.sendall(subscription)
        for index in range(50):
            publisher.publish(make_result(index=index), wait_seconds=0.0)
        events = collect(honest, lambda events: len(sequences(events)) == 50)
    publisher.close()
    assert not [one for one in events if isinstance(one, Gap)]
    assert psutil.Process().memory_info().rss - memory_before < 20 * 1024 * 1024


def test_garbage_instead_of_zeromq_harms_nobody() -> None:
    port = free_port()
    endpoint = f"tcp://127.0.0.1:{port}"
    publisher = make_publisher(ZmqSink(endpoint, "msgpack"))
    with Subscriber(endpoint) as honest:
        join(publisher, honest)
        for index in range(50):
            with sockets.create_connection(("127.0.0.1", port)) as stranger:
                stranger.sendall(os.urandom(300))
            publisher.publish(make_result(index=index), wait_seconds=0.0)
        events = collect(honest, lambda events: len(sequences(events)) == 50)
    publisher.close()
    assert not [one for one in events if isinstance(one, Gap)]


def test_a_flood_of_subscriptions_is_cut_and_the_honest_come_back() -> None:
    endpoint = free_endpoint()
    publisher = make_publisher(ZmqSink(endpoint, "msgpack", most_topics=500))
    with Subscriber(endpoint) as honest:
        join(publisher, honest)
        events = []
        with zmq.Context() as context, context.socket(zmq.SUB) as stranger:
            stranger.setsockopt(zmq.LINGER, 0)
            stranger.setsockopt(zmq.RECONNECT_IVL, -1)
            for number in range(900):
                stranger.subscribe(f"nonsense/{number}")
            stranger.connect(endpoint)
            for index in range(300):
                publisher.publish(make_result(index=index), wait_seconds=0.0)
                time.sleep(0.005)
                event = honest.receive(0.0)
                events += [event] if event else []
        publisher.publish_status(make_status())
        events += collect(honest, lambda _: honest.counts["lobby"].last_sequence == 300, serve=publisher)
    missing = honest.counts["lobby"].lost
    publisher.close()
    assert missing > 0, "everybody was meant to be disconnected once"
    assert len(sequences(events)) + missing == 300
    assert 300 in sequences(events), "the honest subscriber was meant to come back by itself"


def _wait_for_connections(port: int, count: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        connections = psutil.Process().net_connections("tcp")
        if sum(one.status == "ESTABLISHED" and one.laddr.port == port for one in connections) >= count:
            time.sleep(0.3)
            return
        time.sleep(0.05)
    raise AssertionError(f"{count} subscribers did not connect")
