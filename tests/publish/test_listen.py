"""``onpace listen`` against a real publisher, as a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pipeline.publish.messages import Message
from pipeline.publish.publisher import Publisher
from pipeline.publish.zmq_sink import ZmqSink
from tests.publish.examples import free_endpoint, make_publisher, make_result, make_status

LISTEN = (
    "import sys, typer; from pipeline.cli.listen import listen; from pipeline.cli.exit_codes import BAD_INPUT\n"
    "from pipeline.errors import InputError\n"
    "app = typer.Typer(); app.command()(listen)\n"
    "try: sys.exit(app(standalone_mode=False))\n"
    "except InputError as error: print(error, file=sys.stderr); sys.exit(BAD_INPUT)\n"
)


class LeakySink(ZmqSink):
    """Loses messages while told to, as a full queue does."""

    leaking = False

    def send(self, message: Message) -> None:
        if not self.leaking:
            super().send(message)


def _skip_messages(publisher: Publisher, sink: LeakySink, count: int) -> None:
    sink.leaking = True
    for _ in range(count):
        publisher.publish(make_result(), wait_seconds=0.0)
    sink.leaking = False


@contextmanager
def _listening(*arguments: str) -> Iterator[tuple[Publisher, LeakySink, subprocess.Popen[str]]]:
    endpoint = free_endpoint()
    sink = LeakySink(endpoint, "msgpack")
    publisher = make_publisher(sink)
    publisher.publish_status(make_status())
    child = subprocess.Popen(
        [sys.executable, "-c", LISTEN, endpoint, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 20
        while sink.subscriptions < 2 and time.monotonic() < deadline:
            publisher.tick()
            time.sleep(0.02)
        publisher.tick()
        time.sleep(0.1)
        yield publisher, sink, child
    finally:
        child.kill()
        child.wait()
        publisher.close()


def _json_lines(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def test_messages_gaps_and_a_summary_are_printed() -> None:
    with _listening("--count", "3") as (publisher, sink, child):
        publisher.publish(make_result(index=5), wait_seconds=0.0)
        _skip_messages(publisher, sink, 2)
        publisher.publish(make_result(index=8, objects=0), wait_seconds=0.0)
        publisher.publish(make_result(index=9), wait_seconds=0.0)
        output, _ = child.communicate(timeout=15)
    lines = output.splitlines()
    assert lines[0].startswith("lobby  frame 5  age ")
    assert lines[0].endswith("person 0.99, bicycle 0.30")
    assert lines[1] == "*** GAP lobby: lost 2 messages, sequence 2-3"
    assert lines[2].endswith("nothing")
    assert lines[-1] == "lobby: received 3, gaps 1, lost 2"
    assert child.returncode == 0


def test_json_ends_with_a_summary_of_documented_keys() -> None:
    with _listening("--json", "--status", "--count", "2") as (publisher, sink, child):
        publisher.publish(make_result(index=0), wait_seconds=0.0)
        _skip_messages(publisher, sink, 4)
        publisher.publish(make_result(index=5), wait_seconds=0.0)
        output, _ = child.communicate(timeout=15)
    lines = _json_lines(output)
    kinds = [line["kind"] for line in lines if line["kind"] != "status"]
    assert kinds == ["detections", "gap", "detections", "summary"]
    assert {"kind": "gap", "stream_id": "lobby", "first_missing": 2, "last_missing": 5} in lines
    assert set(lines[-1]) == {
        "kind", "endpoint", "reason", "seconds", "received", "gaps", "lost", "malformed",
        "publisher_restarts", "publisher_gone", "streams",
    }  # fmt: skip
    assert (lines[-1]["reason"], lines[-1]["received"], lines[-1]["lost"]) == ("count reached", 2, 4)
    assert set(lines[-1]["streams"]["lobby"]) == {"received", "statuses", "gaps", "lost", "last_sequence"}


def test_it_ends_when_all_streams_have_ended() -> None:
    with _listening("--json") as (publisher, _, child):
        publisher.publish(make_result(), wait_seconds=0.0)
        publisher.publish_status(make_status(verdict="ended", in_flight=0))
        publisher.close()
        output, _ = child.communicate(timeout=15)
    lines = _json_lines(output)
    assert [line["kind"] for line in lines] == ["detections", "publisher_ended", "summary"]
    assert lines[-1]["reason"] == "ended"
    assert child.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_still_gets_its_summary(number: signal.Signals) -> None:
    with _listening("--json") as (publisher, _, child):
        publisher.publish(make_result(), wait_seconds=0.0)
        assert child.stdout is not None
        assert json.loads(child.stdout.readline())["kind"] == "detections"
        child.send_signal(number)
        output, _ = child.communicate(timeout=15)
    assert _json_lines(output)[-1]["reason"] == "interrupted"
    assert child.returncode == 0


def test_it_ends_when_time_is_over_also_with_nothing_to_hear() -> None:
    command = [sys.executable, "-c", LISTEN, free_endpoint(), "--for", "300ms"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=15, check=False)
    assert "nothing received: is a pipeline publishing there?" in done.stdout
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(["tcp://127.0.0.1:99999"], "1 to 65535"), (["tcp://127.0.0.1:5555", "--for", "10"], "needs a unit")],
)
def test_bad_input_ends_with_2_and_says_why(arguments: list[str], word: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LISTEN, *arguments], capture_output=True, text=True, timeout=15, check=False
    )
    assert word in done.stderr
    assert done.returncode == 2


def test_a_closed_output_ends_it_quietly() -> None:
    with _listening() as (publisher, _, child):
        assert child.stdout is not None
        child.stdout.close()
        deadline = time.monotonic() + 10
        while child.poll() is None and time.monotonic() < deadline:
            publisher.publish(make_result(), wait_seconds=0.0)
            time.sleep(0.02)
        assert child.stderr is not None
        assert "Traceback" not in child.stderr.read()
    assert child.returncode == 0
