"""Real RTSP cameras that misbehave: each is accounted for to the frame, and none harms another."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.onpace_process import OnpaceProcess, balanced, onpace

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

CANARY = "canary#s/p@:%ss"


class Run:
    """``onpace run`` over cameras; its messages as they come, its summary at the end."""

    def __init__(
        self, folder: Path, model: Path, cameras: dict[str, str], transport: str = "tcp", threads: str = "null"
    ) -> None:
        self.out = folder / "out.jsonl"
        self.summary_path = folder / "summary.json"
        streams = "".join(f"  - {{id: {name}, url: '{url}'}}\n" for name, url in cameras.items())
        config = folder / "cameras.yaml"
        config.write_text(
            f"streams:\n{streams}infer: {{model: {model}, runtime: cpu, threads: {threads}}}\n"
            f"source: {{read_timeout: 1s, open_timeout: 2s, transport: {transport}}}\n"
            f"publish: {{sinks: ['jsonl:{self.out}'], status_interval: 200ms}}\n"
        )
        self.process = OnpaceProcess("run", config, "--summary", self.summary_path)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.__exit__()

    def messages(self, kind: str, stream_id: str | None = None) -> list[dict[str, Any]]:
        """Every whole line written so far."""
        if not self.out.exists():
            return []
        lines = self.out.read_text().rpartition("\n")[0].splitlines()
        found = [json.loads(line) for line in lines]
        return [m for m in found if m["kind"] == kind and stream_id in (None, m["stream_id"])]

    def wait_until(self, condition, what: str, within_seconds: float = 30) -> None:
        """Wait until ``condition(self)`` holds."""
        until = time.monotonic() + within_seconds
        while not condition(self):
            assert time.monotonic() < until, f"not within {within_seconds} s: {what}\n{self.process.stderr}"
            time.sleep(0.1)

    def wait_for_frames(self, stream_id: str, more: int = 25, within_seconds: float = 30) -> None:
        """Wait for so many more published frames."""
        have = len(self.messages("detections", stream_id))
        self.wait_until(
            lambda run: len(run.messages("detections", stream_id)) >= have + more,
            f"{more} more frames of {stream_id}",
            within_seconds,
        )

    def wait_for_verdict(self, stream_id: str, *verdicts: str, within_seconds: float = 30) -> None:
        """Wait until the stream's latest status has one of the verdicts."""
        self.wait_until(
            lambda run: (run.messages("status", stream_id) or [{"verdict": ""}])[-1]["verdict"] in verdicts,
            f"{stream_id} to be {verdicts}",
            within_seconds,
        )

    def stop(self) -> dict[str, dict[str, Any]]:
        """SIGTERM; return the summary's streams by id."""
        self.process.signal(signal.SIGTERM)
        assert self.process.wait(20) == 0, self.process.stderr
        summary = json.loads(self.summary_path.read_text())
        return {stream["id"]: stream for stream in summary["streams"]}


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_every_picture_that_a_camera_sent_is_accounted_for(tmp_path, models, cameras, clip, transport):
    camera = cameras.add_camera("door", clip, frames=120)
    with Run(tmp_path, models / "nothing.onnx", {"door": camera.url}, transport) as run:
        run.wait_until(lambda run: len(camera.sent) >= 120, "the camera to send 120 pictures")
        run.wait_for_verdict("door", "reconnecting", "offline")
        stream = run.stop()["door"]
    assert stream["received"] == len(camera.sent) == 120
    assert stream["in_flight"] == 0
    assert balanced(stream)
    assert stream["published"] == len(run.messages("detections", "door"))


def test_a_camera_that_is_killed_comes_back_and_the_others_do_not_notice(tmp_path, models, cameras, clip):
    victim = cameras.add_camera("victim", clip, port=0)
    bystander = cameras.add_camera("bystander", clip)
    urls = {"victim": victim.url, "bystander": bystander.url}
    with Run(tmp_path, models / "nothing.onnx", urls) as run:
        run.wait_for_frames("victim")
        run.wait_for_frames("bystander")
        before = len(run.messages("detections", "bystander"))
        victim.restart(3.0)
        run.wait_for_verdict("victim", "reconnecting", within_seconds=10)
        run.wait_for_verdict("bystander", "keeping_up")
        run.wait_for_frames("victim", within_seconds=20)
        streams = run.stop()
    messages = run.messages("detections", "victim")
    assert messages[-1]["epoch"] > messages[0]["epoch"]
    assert streams["victim"]["reconnects"] >= 1
    assert all(balanced(stream) for stream in streams.values())
    others = run.messages("detections", "bystander")
    assert len(others) > before
    # From before the kill on: at a stream's start pictures come in a burst, of which it may drop the oldest.
    indices = [message["frame_index"] for message in others][before - 1 :]
    assert indices == list(range(indices[0], indices[0] + len(indices))), f"the bystander lost frames: {streams}"
    assert {message["epoch"] for message in others} == {1}


def test_a_camera_that_goes_silent_is_noticed_and_its_return_too(tmp_path, models, cameras, clip):
    camera = cameras.add_camera("door", clip)
    with Run(tmp_path, models / "nothing.onnx", {"door": camera.url}) as run:
        run.wait_for_frames("door")
        camera.stall()
        run.wait_for_verdict("door", "stalled", "reconnecting", within_seconds=10)
        camera.resume()
        run.wait_for_frames("door", within_seconds=20)
        streams = run.stop()
    assert balanced(streams["door"])


def test_a_camera_absent_at_start_joins_when_it_appears(tmp_path, models, cameras, clip):
    late = cameras.add_camera("late", clip, port=0)
    late.refuse()
    early = cameras.add_camera("early", clip)
    with Run(tmp_path, models / "nothing.onnx", {"late": late.url, "early": early.url}) as run:
        run.wait_for_frames("early", within_seconds=15)
        assert run.messages("detections", "late") == []
        late.accept()
        run.wait_for_frames("late", within_seconds=20)
        run.stop()


def test_a_wrong_password_is_not_hammered_and_never_printed(tmp_path, models, cameras, clip):
    camera = cameras.add_camera("door", clip, user="admin", password=CANARY)
    camera.unauthorised()
    with Run(tmp_path, models / "nothing.onnx", {"door": camera.url}) as run:
        run.wait_for_verdict("door", "offline", within_seconds=15)
        time.sleep(5)
        tries = camera.counts()["authorised_requests"]
        stream = run.stop()["door"]
    assert 1 <= tries <= 3
    everything = run.process.stdout + run.process.stderr + run.out.read_text() + run.summary_path.read_text()
    assert "unauthorised" in everything
    assert "canary" not in everything
    assert stream["received"] == 0


def test_the_right_password_with_odd_characters_opens(tmp_path, models, cameras, clip):
    camera = cameras.add_camera("door", clip, user="admin", password=CANARY)
    with Run(tmp_path, models / "nothing.onnx", {"door": camera.url}) as run:
        run.wait_for_frames("door")
        run.stop()
    assert "canary" not in run.process.stderr + run.process.stdout + run.out.read_text()


def test_capture_times_come_from_sender_reports_where_the_camera_sends_them(tmp_path, models, cameras, clip):
    reporting = cameras.add_camera("reporting", clip)
    silent = cameras.add_camera("silent", clip, sender_reports=False)
    with Run(tmp_path, models / "nothing.onnx", {"reporting": reporting.url, "silent": silent.url}) as run:
        run.wait_for_frames("reporting", 75)
        run.wait_for_frames("silent", 25)
        run.stop()
    assert run.messages("detections", "reporting")[-1]["capture_clock"] == "rtcp"
    assert {message["capture_clock"] for message in run.messages("detections", "silent")} == {"arrival"}
    last = run.messages("detections", "reporting")[-1]
    assert last["published_utc"] - last["capture_utc"] == pytest.approx(last["age_seconds"], abs=0.05)


def test_overload_is_dropped_at_the_queue_and_the_ages_stay_low(tmp_path, models, cameras, clip):
    camera = cameras.add_camera("fast", clip, fps=120)
    with Run(tmp_path, models / "working.onnx", {"fast": camera.url}, threads="2") as run:
        run.wait_for_verdict("fast", "overloaded", within_seconds=40)
        status = run.messages("status", "fast")[-1]
        stream = run.stop()["fast"]
    assert "infer" in status["cause"]
    assert balanced(stream)
    assert stream["dropped"]["decode"]["queue_full"] > 0
    assert stream["age_seconds"]["p95"] < 1.0


def test_listen_counts_what_was_published(tmp_path, models, cameras, clip):
    camera = cameras.add_camera("door", clip)
    endpoint = f"ipc://{tmp_path}/onpace"
    summary_path = tmp_path / "summary.json"
    with (
        OnpaceProcess("listen", endpoint, "--json") as listener,
        OnpaceProcess(
            "run", camera.url, "--model", models / "nothing.onnx", "--sink", f"zmq:{endpoint}", "--for", "5s",
            "--summary", summary_path,
        ) as runner,
    ):  # fmt: skip
        assert runner.wait(30) == 0, runner.stderr
        assert listener.wait(30) == 0, listener.stderr
    heard = json.loads(listener.stdout.splitlines()[-1])
    published = json.loads(summary_path.read_text())["streams"][0]["published"]
    stream = heard["streams"][0] if isinstance(heard["streams"], list) else next(iter(heard["streams"].values()))
    assert stream["received"] + stream["lost"] == published
    assert stream["received"] > 50


def test_check_shows_cameras_without_their_passwords(tmp_path, models):
    config = tmp_path / "c.yaml"
    config.write_text(
        f"streams: [{{id: a, url: 'rtsp://admin:canary1@127.0.0.1/x', password: canary2}}]\n"
        f"infer: {{model: {models / 'nothing.onnx'}}}\n"
    )
    process = onpace("check", config)
    assert process.wait() == 0, process.stderr
    assert "127.0.0.1" in process.stdout
    assert "canary" not in process.stdout + process.stderr
