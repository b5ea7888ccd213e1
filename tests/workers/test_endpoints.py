"""Metrics, health, control and the live view of a run that two workers share: asked of the parent, answered for all."""

from __future__ import annotations

import http.client
import json
import os
import signal
import struct

import pytest

from pipeline.config.load import config_from_mapping
from pipeline.workers.group import WorkerGroup
from pipeline.workers.open import open_run
from tests.dashboard.steering import wait_until
from tests.metrics.scraping import ask, families, health, port_of, values

pytestmark = pytest.mark.e2e

CAMERA = "pattern:?size=64x64&fps=25"


@pytest.fixture(scope="module")
def run(nothing):
    """Two workers with two streams each, their endpoints on free ports; the tests go on where the one before ended."""
    config = config_from_mapping(
        {
            "streams": [{"id": stream_id, "url": CAMERA, "realtime": True} for stream_id in "abcd"],
            "infer": {"model": str(nothing), "runtime": "cpu"},
            "metrics": {"listen": "127.0.0.1:0"},
            "dashboard": {"listen": "127.0.0.1:0"},
            "workers": {"count": 2},
        },
        origin="test",
    )
    with open_run(config) as run:
        assert isinstance(run, WorkerGroup)
        run.start()
        wait_until(lambda: all(status.ledger.published >= 5 for status in run.status()), "frames of all streams", 60)
        yield run


def steer(run, method, path, body=None):
    """Ask the control API; return status and JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", run.dashboard.server.port, timeout=30)
    try:
        content = {} if body is None else {"Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body).encode(), content)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def pictures(run, streams, wanted):
    """Look at these streams until every one of ``wanted`` was seen; return stream -> JPEG."""
    connection = http.client.HTTPConnection("127.0.0.1", run.dashboard.server.port, timeout=20)
    seen = {}
    try:
        connection.request("GET", "/api/preview?width=160&" + "&".join(f"stream={one}" for one in streams))
        response = connection.getresponse()
        while set(seen) < set(wanted):
            lengths = struct.unpack("<II", response.read(8))
            message, jpeg = (response.read(length) for length in lengths)
            if jpeg:
                seen[json.loads(message)["stream_id"]] = jpeg
    finally:
        connection.close()
    return seen


def events(run, kind, wanted):
    """Read server-sent events until every stream of ``wanted`` had one; return the latest of each."""
    connection = http.client.HTTPConnection("127.0.0.1", run.dashboard.server.port, timeout=20)
    latest = {}
    try:
        connection.request("GET", f"/api/events?kind={kind}")
        response = connection.getresponse()
        while not set(latest) >= set(wanted):
            name, data = response.readline().decode(), response.readline().decode()
            response.readline()
            if name == f"event: {kind}\n":
                message = json.loads(data.removeprefix("data: "))
                latest[message["stream_id"]] = message
    finally:
        connection.close()
    return latest


def test_every_endpoint_answers_for_the_streams_of_all_workers(run):
    shown = ask(port_of(run), "/metrics")[1]
    assert [sample.labels["stream_id"] for sample in families(shown)["onpace_frames_published_total"].samples] == list(
        "abcd"
    )
    figures = values(shown)
    assert figures["onpace_worker_up", "worker", "1"] == figures["onpace_worker_up", "worker", "2"] == 1
    assert all(figures["onpace_worker_resident_memory_bytes", "worker", number] > 1e7 for number in "12")
    for stream_id in "abcd":
        received = figures["onpace_frames_received_total", "stream_id", stream_id]
        flying = sum(v for key, v in figures.items() if key[0] == "onpace_frames_in_flight" and key[-1] == stream_id)
        published = figures["onpace_frames_published_total", "stream_id", stream_id]
        assert received == published + flying
        assert figures["onpace_frame_age_seconds_count", "stream_id", stream_id] > 0
    assert figures["onpace_stage_seconds_count", "stage", "infer"] > 0
    builds = ("onpace_model_builds_total", "precision", "as_is", "result", "built", "runtime", "cpu")
    assert figures[builds] == 0  # counted in the workers, which had nothing to build
    assert ask(port_of(run), "/readyz") == (200, "ready\n")
    report = health(port_of(run))
    assert [stream["id"] for stream in report["streams"]] == list("abcd")
    assert [(one["worker"], one["up"], one["restarts"]) for one in report["workers"]] == [(1, True, 0), (2, True, 0)]
    assert {stream["id"] for stream in steer(run, "GET", "/api/streams")[1]["streams"]} == set("abcd")
    seen = pictures(run, "abcd", "abcd")
    assert all(jpeg.startswith(b"\xff\xd8") for jpeg in seen.values())
    assert set(events(run, "detections", "abcd")) == set("abcd")
    assert set(events(run, "status", "abcd")) == set("abcd")


def test_what_is_asked_reaches_the_worker_that_has_the_stream(run):
    assert steer(run, "POST", "/api/streams", {"id": "e", "url": CAMERA, "realtime": True})[0] == 201
    wait_until(lambda: steer(run, "GET", "/api/streams/e")[1]["status"]["published"] > 3, "frames of e")
    status, refusal = steer(run, "POST", "/api/streams", {"id": "e", "url": CAMERA})
    assert (status, refusal["error"]["code"]) == (409, "conflict")
    assert steer(run, "POST", "/api/streams/nobody/pause")[0] == 404
    assert steer(run, "PATCH", "/api/streams/b", {"max_fps": 5})[1]["max_fps"] == 5
    wait_until(lambda: _dropped(run, "b").get("decode", {}).get("rate", 0) > 3, "frames left out of b")
    assert steer(run, "POST", "/api/streams/a/pause")[1]["paused"] is True
    wait_until(lambda: steer(run, "GET", "/api/streams/a")[1]["status"]["verdict"] == "paused", "the pause of a")
    status, gone = steer(run, "DELETE", "/api/streams/c")
    assert (status, gone["gone"], gone["in_flight"]) == (200, True, 0)
    assert gone["received"] == gone["published"] + sum(sum(why.values()) for why in gone["dropped"].values())
    assert steer(run, "GET", "/api/streams/c")[0] == 404
    assert steer(run, "POST", "/api/streams", {"id": "c", "url": CAMERA, "realtime": True})[0] == 201
    again = events(run, "detections", "c")["c"]
    assert again["epoch"] == 2
    assert again["sequence"] > gone["published"]
    assert again["frame_index"] >= gone["received"]


def test_a_lost_worker_shows_and_what_was_asked_outlives_it(run):
    steer(run, "POST", "/api/streams/a/pause")
    worker = run._accounts.get("a").worker
    other = next(one.plan.stream_id for one in run._accounts.of(worker) if one.plan.stream_id != "a")
    status, facts = steer(run, "PATCH", f"/api/streams/{other}", {"weight": 3})
    assert status == 200, facts
    published = _status(run, other).ledger.published
    os.kill(run._workers[worker - 1].pid, signal.SIGKILL)
    wait_until(lambda: f"worker {worker} ended: SIGKILL" in _status(run, other).cause, "the cause at its stream")
    assert values(ask(port_of(run), "/metrics")[1])["onpace_worker_up", "worker", str(worker)] == 0
    assert ask(port_of(run), "/readyz")[0] == 200
    status, refusal = steer(run, "POST", f"/api/streams/{other}/restart")
    assert status == 409
    assert f"worker {worker}" in refusal["error"]["message"]
    wait_until(lambda: _status(run, other).ledger.published > published + 3, "frames of its stream", 60)
    wait_until(lambda: _status(run, other).state == "live", "the connection of its stream")
    figures = values(ask(port_of(run), "/metrics")[1])
    assert figures["onpace_worker_restarts_total", "reason", "SIGKILL", "worker", str(worker)] == 1
    assert figures["onpace_stream_reconnects_total", "stream_id", other] == 1
    assert figures["onpace_frame_age_seconds_count", "stream_id", other] > published
    assert steer(run, "GET", f"/api/streams/{other}")[1]["weight"] == 3
    assert _status(run, "a").verdict == "paused"
    assert all(status.ledger.balanced for status in run.status())
    assert set(pictures(run, other, other)) == {other}


def _status(run, stream_id):
    return next(status for status in run.status() if status.stream_id == stream_id)


def _dropped(run, stream_id):
    return _status(run, stream_id).ledger.dropped
