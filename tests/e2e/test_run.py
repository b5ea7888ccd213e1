"""``onpace run`` over real files: every frame in, every result out, every exit code."""

from __future__ import annotations

import json
import signal
import time

import cv2
import numpy as np
import pytest

from tests.helpers.onpace_process import OnpaceProcess, balanced, onpace, run_with_summary
from tests.helpers.test_data import test_data

pytestmark = pytest.mark.e2e


def test_a_pattern_runs_to_its_end_and_every_frame_is_published(models, tmp_path):
    out = tmp_path / "out.jsonl"
    summary = run_with_summary(
        "pattern:?size=320x180&fps=25&frames=120", "--model", models / "planted.onnx", "--sink", f"jsonl:{out}"
    )
    stream = summary["streams"][0]
    assert (stream["received"], stream["published"], stream["in_flight"]) == (120, 120, 0)
    assert stream["dropped"] == {}
    assert summary["kept_pace"] is True
    messages = [json.loads(line) for line in out.read_text().splitlines()]
    detections = [message for message in messages if message["kind"] == "detections"]
    assert [message["frame_index"] for message in detections] == list(range(120))
    assert [message["sequence"] for message in detections] == list(range(1, 121))
    assert all(message["objects"] for message in detections)
    assert all(message["frame_width"] == 320 and message["frame_height"] == 180 for message in detections)
    status = [message for message in messages if message["kind"] == "status"][-1]
    assert (status["received"], status["published"], status["verdict"]) == (120, 120, "ended")


def test_stage_times_and_wait_add_up_to_the_age(models, tmp_path):
    out = tmp_path / "out.jsonl"
    run_with_summary("pattern:?frames=50", "--model", models / "working.onnx", "--sink", f"jsonl:{out}")
    messages = [json.loads(line) for line in out.read_text().splitlines()]
    for message in messages:
        if message["kind"] == "detections":
            assert sum(message["stage_seconds"].values()) == pytest.approx(message["age_seconds"], abs=1e-3)
            assert all(seconds >= 0 for seconds in message["stage_seconds"].values())


def test_a_file_at_full_speed_leaves_a_live_stream_its_frames(models, tmp_path):
    config = tmp_path / "mixed.yaml"
    config.write_text(
        "streams:\n"
        "  - {id: camera, url: 'pattern:?fps=8&frames=48', realtime: true}\n"
        "  - {id: file, url: 'pattern:?frames=100000'}\n"
        f"infer: {{model: {models / 'working.onnx'}, runtime: cpu, prefer: throughput}}\n"
    )
    with OnpaceProcess("run", config, "--for", "8s", "--json") as process:
        assert process.wait(60) == 0, process.stderr
    camera, file = json.loads(process.stdout)["streams"]
    assert camera["received"] == 48
    assert camera["published"] >= 44
    assert file["published"] > 0


def test_results_that_a_sink_could_not_keep_are_a_failure(models):
    summary = run_with_summary(
        "pattern:?frames=20", "--model", models / "nothing.onnx", "--sink", "jsonl:/dev/full", code=1
    )
    assert sum(summary["sinks"].values()) > 0


def test_several_sources_of_different_kinds_run_side_by_side(models):
    data = test_data()
    summary = run_with_summary(
        "pattern:?frames=60&fps=30",
        data / "videos/rotation_90.mp4",
        data / "videos/resolution_change.h264",
        data / "images/coco_val2017_128/images",
        "--model",
        models / "nothing.onnx",
    )
    assert [stream["published"] for stream in summary["streams"]] == [60, 30, 96, 128]
    assert all(balanced(stream) for stream in summary["streams"])


def test_a_live_source_faster_than_the_model_drops_the_oldest_and_says_so(models):
    summary = run_with_summary(
        "pattern:?fps=200&frames=1200&size=320x180",
        "--realtime",
        "--model",
        models / "working.onnx",
        "--require-pace",
        code=3,
    )
    stream = summary["streams"][0]
    assert stream["received"] == 1200
    assert stream["in_flight"] == 0
    assert balanced(stream)
    assert stream["dropped"]["decode"]["queue_full"] > 0
    assert stream["verdict"] == "overloaded"
    assert stream["age_seconds"]["p95"] < 1.0
    assert summary["kept_pace"] is False


def test_require_pace_is_met_by_a_stream_that_keeps_up(models):
    summary = run_with_summary(
        "pattern:?fps=20&frames=60", "--realtime", "--require-pace", "--model", models / "nothing.onnx"
    )
    assert summary["streams"][0]["published"] == 60
    assert summary["verdict"] == "keeping_up"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_drains_and_ends_with_0(models, tmp_path, number):
    summary_path = tmp_path / "summary.json"
    with OnpaceProcess(
        "run", "pattern:?fps=50", "--realtime", "--model", models / "nothing.onnx", "--summary", summary_path
    ) as process:
        process.wait_for("keeping_up")
        started = time.monotonic()
        process.signal(number)
        assert process.wait(15) == 0, process.stderr
        assert time.monotonic() - started < 10
    stream = json.loads(summary_path.read_text())["streams"][0]
    assert stream["in_flight"] == 0
    assert balanced(stream)
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_model_is_loaded_ends_with_0_and_leaves_nothing_behind(models, tmp_path, number):
    socket, summary_path = tmp_path / "results.sock", tmp_path / "summary.json"
    options = ("--model", models / "nothing.onnx", "--sink", f"zmq:ipc://{socket}", "--summary", summary_path)
    with OnpaceProcess("run", "pattern:", *options) as process:
        until = time.monotonic() + 30
        while not socket.exists() and time.monotonic() < until:  # bound before the model is loaded and measured
            time.sleep(0.01)
        process.signal(number)
        assert process.wait(15) == 0, process.stderr
    assert not socket.exists()
    assert json.loads(summary_path.read_text())["streams"][0]["received"] == 0
    assert "Traceback" not in process.stderr


def test_a_summary_that_cannot_be_written_is_refused_before_the_run(models, tmp_path):
    with OnpaceProcess("run", "pattern:", "--model", models / "nothing.onnx", "--summary", tmp_path) as process:
        assert process.wait(15) == 2
    assert "is a folder" in process.stderr


def test_a_model_may_be_called_anything(models, tmp_path):
    model = tmp_path / "yolo[v8].onnx"
    model.write_bytes((models / "nothing.onnx").read_bytes())
    with OnpaceProcess("run", "pattern:?frames=3", "--model", model) as process:
        assert process.wait(30) == 0
    assert "yolo[v8] on cpu" in process.stdout


def test_a_short_file_that_is_repeated_is_told_once(models, tmp_path):
    picture = tmp_path / "one.png"
    cv2.imwrite(str(picture), np.zeros((64, 64, 3), np.uint8))
    options = ("--loop", "--for", "3s", "--model", models / "nothing.onnx")
    with OnpaceProcess("run", picture, *options) as process:
        assert process.wait(30) == 0
    assert process.stderr.count("live:") == 1


def test_a_time_limit_ends_an_endless_run(models):
    summary = run_with_summary("pattern:", "--realtime", "--loop", "--for", "2s", "--model", models / "nothing.onnx")
    assert summary["streams"][0]["published"] > 10
    assert summary["streams"][0]["in_flight"] == 0


def test_json_prints_the_summary_and_nothing_else(models):
    process = onpace("run", "pattern:?frames=10", "--json", "--model", models / "nothing.onnx")
    summary = json.loads(process.stdout)
    assert set(summary) == {
        "onpace", "exit_code", "verdict", "kept_pace", "duration_seconds", "error", "model", "runtime", "sinks",
        "streams",
    }  # fmt: skip
    assert set(summary["streams"][0]) == {
        "id", "received", "published", "dropped", "in_flight", "fps", "cadence_fps", "age_seconds",
        "wait_seconds_p95", "service_seconds_p95", "verdict", "cause", "kept_pace", "reconnects", "capture_clock",
        "error",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["pattern:"], "--model"),
        (["pattern:?size=32x32", "--model", "{nothing}"], "64"),
        (["pattern:", "--model", "nowhere.onnx"], "nowhere.onnx"),
        (["ftp://host/x", "--model", "{nothing}"], "ftp"),
        (["nowhere.mp4", "--model", "{nothing}"], "nowhere.mp4"),
        (["pattern:", "--model", "{nothing}", "--sink", "carrier-pigeon:x"], "carrier-pigeon"),
        (["pattern:", "--model", "{nothing}", "--sink", "zmq:tcp://127.0.0.1:99999"], "99999"),
        (["pattern:", "--model", "{nothing}", "--runtime", "abacus"], "abacus"),
        (["pattern:", "--model", "{nothing}", "--for", "5"], "unit"),
        (["nowhere.yaml"], "nowhere.yaml"),
        (["--no-such-option"], "no-such-option"),
    ],
)
def test_bad_input_is_one_clear_error_and_exit_code_2(models, arguments, says):
    filled = [argument.replace("{nothing}", str(models / "nothing.onnx")) for argument in arguments]
    process = onpace("run", *filled)
    assert process.wait() == 2, process.stderr
    assert says in process.stderr
    assert "Traceback" not in process.stderr


def test_two_pipelines_run_side_by_side_in_one_process(models):
    from pipeline.config.load import config_from_mapping
    from pipeline.pipeline import Pipeline

    def configured(frames):
        return config_from_mapping(
            {
                "streams": [{"id": "s", "url": f"pattern:?frames={frames}"}],
                "infer": {"model": str(models / "nothing.onnx"), "runtime": "cpu"},
            },
            origin="test",
        )

    with Pipeline(configured(30)) as first, Pipeline(configured(50)) as second:
        first.start()
        second.start()
        assert first.wait(30)
        assert second.wait(30)
        assert first.status()[0].ledger.published == 30
        assert second.status()[0].ledger.published == 50
