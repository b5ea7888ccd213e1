"""The system clock is set forward and back under a running pipeline, in every library of its process."""

from __future__ import annotations

import json
import signal
import time

import pytest

from tests.helpers.onpace_process import OnpaceProcess, balanced
from tests.helpers.stepped_clock import SteppedClock

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

HOUR = 3600.0
STEPS = (HOUR, -2 * HOUR, 0.0)


def messages(path):
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def keeps_up_since(found, first):
    """How many statuses, the last ones in a row after the message ``first``, say that the stream keeps up."""
    verdicts = [message["verdict"] for message in found[first:] if message["kind"] == "status"]
    worse = [place + 1 for place, verdict in enumerate(verdicts) if verdict != "keeping_up"]
    return len(verdicts) - max(worse, default=0)


def test_setting_the_system_clock_changes_no_verdict_age_or_count(models, cameras, clip, tmp_path):
    clock = SteppedClock(tmp_path)
    camera = cameras.add_camera("a", clip, fps=10)
    out, config, summary = tmp_path / "out.jsonl", tmp_path / "c.yaml", tmp_path / "summary.json"
    config.write_text(
        f"streams: [{{id: a, url: '{camera.url}'}}]\ninfer: {{model: {models / 'nothing.onnx'}, runtime: cpu}}\n"
        f"publish: {{sinks: ['jsonl:{out}'], status_interval: 200ms}}\n"
        "keepup: {window: 2s, hysteresis: 1s, tolerance: 0.2}\n"
    )
    with OnpaceProcess("run", config, "--summary", summary, env=clock.env) as process:
        wait_until(lambda: keeps_up_since(messages(out), 0) >= 3, process)
        begun = len(messages(out))
        for step in STEPS:
            clock.set(step)
            since = len(messages(out))
            wait_until(lambda since=since: keeps_up_since(messages(out), since) >= 10, process)
        process.signal(signal.SIGTERM)
        assert process.wait(30) == 0, process.stderr
    found = messages(out)[begun:]
    frames = [message for message in found if message["kind"] == "detections"]
    statuses = [message for message in found if message["kind"] == "status" and message["state"] == "live"]
    utc = [message["published_utc"] for message in frames]
    assert max(utc) - min(utc) > 2.9 * HOUR, "the clock was really set"
    assert {message["capture_clock"] for message in frames} == {"rtcp"}
    assert max(message["age_seconds"] for message in frames) < 5.0
    assert min(message["age_seconds"] for message in frames) > -1.0
    # Late it may be, on a busy machine.
    assert {message["verdict"] for message in statuses} <= {"keeping_up", "falling_behind"}
    assert all(message["reconnects"] == 0 for message in statuses)
    assert all(2 < message["cadence_fps"] < 25 for message in statuses)
    (stream,) = json.loads(summary.read_text())["streams"]
    assert balanced(stream)
    assert stream["reconnects"] == 0


def wait_until(what, process, seconds=40.0):
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, process.stderr
        time.sleep(0.1)
