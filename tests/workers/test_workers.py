"""``onpace run --workers``: one run to whoever subscribes, several processes to whatever goes wrong."""

from __future__ import annotations

import json
import os
import signal
import time

import psutil
import pytest

from pipeline.publish.messages import DetectionsMessage, StatusMessage
from pipeline.subscriber import Gap, PublisherEnded, PublisherRestarted, Subscriber
from tests.helpers.onpace_process import REPOSITORY, OnpaceProcess, balanced, onpace, run_with_summary
from tests.helpers.published import published

pytestmark = pytest.mark.e2e


def camera(fps=25, **more):
    """A synthetic camera's address."""
    return "pattern:?" + "&".join(f"{key}={value}" for key, value in {"size": "320x180", "fps": fps, **more}.items())


def configured(tmp_path, model, streams, *, sinks=(), status_interval="1s", **workers):
    """Write a configuration for two workers; return its path."""
    config = {
        "streams": [{"id": stream_id, **settings} for stream_id, settings in streams.items()],
        "infer": {"model": str(model), "runtime": "cpu"},
        "publish": {"sinks": list(sinks), "status_interval": status_interval},
        "workers": {"count": 2, **workers},
        "keepup": {"window": "2s"},
    }
    path = tmp_path / "workers.yaml"
    path.write_text(json.dumps(config))
    return path


def children_of(process):
    """The worker processes, the first worker first."""
    return sorted(
        (one for one in psutil.Process(process.pid).children() if "pipeline.workers.child" in one.cmdline()),
        key=lambda one: (one.create_time(), one.pid),
    )


def take(subscriber, until, within_seconds=60.0):
    """Return the events up to and with the first for which ``until`` holds."""
    events, deadline = [], time.monotonic() + within_seconds
    while time.monotonic() < deadline:
        event = subscriber.receive(1.0)
        if event is not None:
            events.append(event)
            if until(event):
                return events
    raise AssertionError(f"never came; the last of {len(events)} events: {events[-3:]}")


def test_a_subscriber_gets_every_message_of_every_stream_once(nothing, tmp_path):
    endpoint = f"ipc://{tmp_path}/results.sock"
    frames = {"a": 400, "b": 300, "c": 250, "d": 80}
    streams = {name: {"url": f"pattern:?size=320x180&frames={count}"} for name, count in frames.items()}
    config = configured(tmp_path, nothing, streams, sinks=[f"zmq:{endpoint}", f"jsonl:{tmp_path}/out.jsonl"])
    summary_file = tmp_path / "summary.json"
    with OnpaceProcess("run", config, "--summary", summary_file) as process:
        while not (tmp_path / "results.sock").exists():  # it is bound before the workers load the model
            time.sleep(0.01)
        with Subscriber(endpoint) as subscriber:
            events = take(subscriber, lambda event: isinstance(event, PublisherEnded))
        assert process.wait() == 0, process.stderr
    messages = [event for event in events if isinstance(event, DetectionsMessage)]
    for name, count in frames.items():
        own = [message for message in messages if message.stream_id == name]
        assert [message.sequence for message in own] == list(range(1, count + 1))
        assert [message.frame_index for message in own] == list(range(count))
        assert {message.epoch for message in own} == {1}
    assert len({event.publisher for event in events if isinstance(event, DetectionsMessage | StatusMessage)}) == 1
    assert not [event for event in events if isinstance(event, Gap | PublisherRestarted)]
    summary = json.loads(summary_file.read_text())
    assert [stream["id"] for stream in summary["streams"]] == list(frames)
    assert {stream["id"]: stream["published"] for stream in summary["streams"]} == frames
    assert all(balanced(stream) and not stream["dropped"] and not stream["in_flight"] for stream in summary["streams"])
    written = published(tmp_path / "out.jsonl")
    assert {name: len(lines) for name, lines in written.items()} == frames


def test_a_killed_worker_takes_only_its_own_streams_down_and_they_come_back(nothing, tmp_path):
    endpoint = f"ipc://{tmp_path}/results.sock"
    streams = {name: {"url": camera(fps=50), "realtime": True} for name in "abcd"}
    # Statuses come by themselves only every 20 s: what comes sooner is news, or for a late joiner.
    config = configured(tmp_path, nothing, streams, sinks=[f"zmq:{endpoint}"], status_interval="20s")
    summary_file = tmp_path / "summary.json"
    with OnpaceProcess("run", config, "--summary", summary_file) as process, Subscriber(endpoint) as subscriber:
        seen = set()
        take(subscriber, lambda event: isinstance(event, DetectionsMessage) and (seen.add(event.stream_id) or
             seen == set("abcd")))  # fmt: skip
        with Subscriber(endpoint, kinds=["status"]) as joiner:
            seen.clear()
            take(joiner, lambda event: seen.add(event.stream_id) or seen == set("abcd"), 5)  # of all, at once
            assert {counts.statuses for counts in joiner.counts.values()} == {1}
        children_of(process)[0].kill()
        gone = take(subscriber, lambda event: isinstance(event, StatusMessage) and event.verdict == "reconnecting")
        status = gone[-1]
        assert status.stream_id in "ac"  # a and c are worker 1's
        assert "worker 1 ended: SIGKILL" in status.cause
        assert status.cause == status.last_error
        assert status.state == "waiting"
        back = take(subscriber, lambda event: isinstance(event, DetectionsMessage) and event.epoch == 2)
        assert back[-1].stream_id in "ac"
        more = set()
        take(subscriber, lambda event: more.add((getattr(event, "stream_id", ""), getattr(event, "epoch", 0))) or
             more >= {("a", 2), ("b", 1), ("c", 2), ("d", 1)})  # fmt: skip
        workers = children_of(process)
        assert len(workers) == 2
        for one in workers:  # as Ctrl-C and service managers do: every process hears it
            one.send_signal(signal.SIGTERM)
        process.signal(signal.SIGTERM)
        rest = take(subscriber, lambda event: isinstance(event, PublisherEnded))
        assert process.wait() == 0, process.stderr
        assert not [event for event in gone + back + rest if isinstance(event, Gap | PublisherRestarted)]
        assert not any(one.is_running() for one in workers)
        counts = subscriber.counts
    summary = json.loads(summary_file.read_text())
    for stream in summary["streams"]:
        assert balanced(stream)
        assert stream["in_flight"] == 0
        assert stream["published"] == counts[stream["id"]].last_sequence
        assert stream["reconnects"] == (1 if stream["id"] in "ac" else 0)
    assert "worker 1 ended: SIGKILL" in process.stderr


def test_workers_end_when_their_parent_is_killed(nothing, tmp_path):
    streams = {name: {"url": camera(), "realtime": True} for name in "ab"}
    with OnpaceProcess("run", configured(tmp_path, nothing, streams)) as process:
        process.wait_for("live: raw")
        workers = children_of(process)
        process.signal(signal.SIGKILL)
        gone, alive = psutil.wait_procs(workers, timeout=5)
    assert len(gone) == 2
    assert not alive


LOSE_THE_GPU = """
import gc, os, sys, threading, time

def lose_when_asked():
    asked = os.environ["ONPACE_TEST_LOSE"]
    while True:
        time.sleep(0.1)
        if os.path.exists(asked) and "pipeline.pipeline" in sys.modules and "pipeline.workers.notes" in sys.modules:
            from engines.errors import DeviceLostError
            from pipeline.pipeline import Pipeline
            gc.unfreeze()  # or the collector does not know it any more
            running = [one for one in gc.get_objects() if isinstance(one, Pipeline)]
            if running:
                try:
                    os.rename(asked, asked + ".done")  # one process does, and once
                except FileNotFoundError:
                    return
                return running[0]._failed(DeviceLostError("the GPU is lost to this process (a test)"))

if "ONPACE_TEST_LOSE" in os.environ:
    threading.Thread(target=lose_when_asked, daemon=True).start()
"""
"""As ``sitecustomize``: the first worker that has a pipeline is told what a slot that lost the GPU tells it."""


def test_a_worker_that_lost_the_gpu_says_so_and_comes_back(nothing, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(LOSE_THE_GPU)
    streams = {name: {"url": camera(), "realtime": True} for name in "abcd"}
    config = configured(tmp_path, nothing, streams, sinks=[f"jsonl:{tmp_path}/out.jsonl"])
    path = os.pathsep.join(filter(None, (str(tmp_path), str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    environment = {"PYTHONPATH": path, "ONPACE_TEST_LOSE": str(tmp_path / "lose")}
    summary_file = tmp_path / "summary.json"
    with OnpaceProcess("run", config, "--summary", summary_file, env=environment) as process:
        for name in "abcd":
            process.wait_for(f"onpace.source.{name}:", 60)
        (tmp_path / "lose").touch()
        process.wait_for("ended: device lost: DeviceLostError: the GPU is lost to this process", 60)
        until = time.monotonic() + 60
        while process.stderr.count("live: raw 320x180, epoch 2") < 2:
            assert time.monotonic() < until, process.stderr
            time.sleep(0.1)
        time.sleep(1.0)  # for a frame of each
        process.signal(signal.SIGTERM)
        assert process.wait(60) == 0, process.stderr
    done = json.loads(summary_file.read_text())["streams"]
    assert all(balanced(stream) for stream in done)
    assert sum(stream["reconnects"] for stream in done) == 2  # those of one worker
    written = published(tmp_path / "out.jsonl")
    for stream in done:
        assert [message["sequence"] for message in written[stream["id"]]] == list(range(1, stream["published"] + 1))


def test_a_signal_while_workers_wait_to_be_started_again_is_a_proper_end(nothing, tmp_path):
    streams = {name: {"url": camera(), "realtime": True} for name in "ab"}
    with OnpaceProcess("run", configured(tmp_path, nothing, streams), "--json") as process:
        process.wait_for("live: raw")
        for one in children_of(process):
            one.kill()
        process.wait_for("restarting in 1 s")
        process.signal(signal.SIGINT)
        assert process.wait(30) == 0, process.stderr
    assert all(balanced(stream) for stream in json.loads(process.stdout)["streams"])


def test_files_whose_worker_is_lost_again_and_again_are_given_up(nothing, tmp_path):
    """Here the memory limit does the killing: a worker holds more than 64 MiB as soon as it has loaded anything."""
    streams = {"file": {"url": "pattern:?frames=1000000&size=320x180"}}
    config = configured(tmp_path, nothing, {**streams, "other": streams["file"]}, most_memory=64, restart_max_wait="1s")
    summary = run_with_summary(config, code=1)
    for stream in summary["streams"]:
        assert balanced(stream)
        assert "memory" in stream["error"]
        assert "at most 64 MiB" in stream["error"]
        assert "given up after" in stream["error"]
    assert summary["exit_code"] == 1


def test_bad_input_is_told_once_and_nothing_is_left_behind(nothing, tmp_path):
    model = tmp_path / "broken.onnx"
    model.write_bytes(b"no model")
    streams = {name: {"url": camera(), "realtime": True} for name in "ab"}
    process = onpace("run", configured(tmp_path, model, streams))
    assert process.wait() == 2
    assert process.stderr.count("broken.onnx") == 1


@pytest.mark.parametrize("count", ["0", "65", "many"])
def test_a_count_that_is_none_is_refused(nothing, count):
    process = onpace("run", camera(frames=1), "--model", nothing, "--workers", count)
    assert process.wait() == 2
    assert '"auto" or a whole number from 1 to 64' in process.stderr
