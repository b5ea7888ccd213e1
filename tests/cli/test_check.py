from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.onpace_command import onpace
from tests.helpers.tiny_onnx import do_nothing_detector, planted_detector

REPORT = {"ok", "file", "problems", "warnings", "streams", "model", "runtime", "sinks"}


@pytest.fixture
def good(tmp_path: Path) -> Path:
    do_nothing_detector(tmp_path / "model.onnx", (96, 96))
    path = tmp_path / "good.yaml"
    path.write_text(
        "streams:\n"
        "  - {id: lobby, url: 'rtsp://admin:hunter2@127.0.0.1:1/one', open_timeout: 1s}\n"
        "  - {id: test, url: 'pattern:?size=96x64&frames=5'}\n"
        "infer: {model: model.onnx}\n"
        "publish: {sinks: ['zmq:tcp://0.0.0.0:5555']}\n"
    )
    return path


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "bad.yaml"
    path.write_text("streams:\n  - id: a\n    url: ftp://u:hunter2@h/x\n    polcy: block\ninfer: {}\n")
    return path


def test_a_good_configuration_is_shown_without_credentials(good: Path) -> None:
    done = onpace("check", good)
    assert done.returncode == 0, done.stderr
    assert "lobby  rtsp://***@127.0.0.1:1/one  (live, 8 frames, drop_oldest)" in done.stdout
    assert "test   pattern:" in done.stdout
    assert "model.onnx on auto" in done.stdout
    assert "can be read by every machine" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr


def test_problems_go_to_stderr_with_exit_code_2(bad: Path) -> None:
    done = onpace("check", bad)
    assert done.returncode == 2
    assert done.stdout == ""
    assert f"{bad}:4: streams[0].polcy: unknown key. Did you mean 'policy'?" in done.stderr
    assert f"{bad}:5: infer.model: is missing" in done.stderr
    assert "hunter2" not in done.stderr


def test_json_has_the_documented_keys_for_problems(bad: Path) -> None:
    done = onpace("check", bad, "--json")
    assert done.returncode == 2
    report = json.loads(done.stdout)
    assert report.keys() == REPORT
    assert report["ok"] is False
    assert [problem["line"] for problem in report["problems"]] == [3, 4, 5]
    assert all(problem.keys() == {"file", "line", "path", "value", "message"} for problem in report["problems"])
    assert "hunter2" not in done.stdout


def test_json_has_the_documented_keys_for_a_good_configuration(good: Path) -> None:
    report = json.loads(onpace("check", good, "--json").stdout)
    assert report.keys() == REPORT
    assert report["ok"] is True
    assert report["problems"] == []
    assert [stream["id"] for stream in report["streams"]] == ["lobby", "test"]
    assert report["streams"][1].keys() == {"id", "url", "live", "policy", "queue_frames", "probe"}
    assert [warning["path"] for warning in report["warnings"]] == ["publish.sinks[0]"]


def test_probe_opens_every_stream_and_says_which_do_not(good: Path) -> None:
    done = onpace("check", good, "--probe", "--json")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    camera, pattern = (stream["probe"] for stream in report["streams"])
    assert report["ok"] is False
    assert camera["ok"] is False
    assert camera["message"]
    assert (pattern["ok"], pattern["width"], pattern["height"]) == (True, 96, 64)
    assert "hunter2" not in done.stdout + done.stderr


def test_a_missing_file_is_bad_input(tmp_path: Path) -> None:
    done = onpace("check", tmp_path / "absent.yaml")
    assert done.returncode == 2
    assert "absent.yaml: no such file." in done.stderr


def test_what_a_run_would_refuse_when_it_opens_the_files_is_a_problem_too(good: Path) -> None:
    config = good.read_text()
    pictures = config.replace("model.onnx}", "model.onnx, precision: int8, calibration: ['rtsp://u:hunter2@h/x']}")
    for text, model, told in ((pictures, None, "infer.calibration[0]"), (config, b"no model", "infer.model")):
        good.write_text(text)
        if model is not None:
            (good.parent / "model.onnx").write_bytes(model)
        done = onpace("check", good)
        assert done.returncode == 2
        assert f"{good}:4: {told}: " in done.stderr
        assert "hunter2" not in done.stderr
        (problem,) = json.loads(onpace("check", good, "--json").stdout)["problems"]
        assert (problem["path"], problem["line"]) == (told, 4)


def test_everything_that_a_run_would_refuse_is_told_at_once_with_its_line(good: Path) -> None:
    (good.parent / "model.onnx").write_bytes(b"no model")
    calibration = "precision: int8\n  calibration:\n  - none.mp4\n  - sample:street.mp4\n  - rtsp://u:hunter2@h/x"
    good.write_text(good.read_text().replace("{model: model.onnx}", f"\n  model: model.onnx\n  {calibration}"))
    done = onpace("check", good)
    assert done.returncode == 2
    for line, told in ((5, "infer.model: "), (8, "infer.calibration[0]: "), (10, "infer.calibration[2]: ")):
        assert f"{good}:{line}: {told}" in done.stderr
    assert "hunter2" not in done.stderr
    problems = json.loads(onpace("check", good, "--json").stdout)["problems"]
    assert [problem["line"] for problem in problems] == [5, 8, 10]


@pytest.mark.parametrize(
    ("runtime", "wanted"),
    [
        ("cpu", "precision: bf16"),
        ("cuda", "precision: bf16"),
        ("cpu", "precision: fp8, calibration: [sample:street.mp4]"),
    ],
)
def test_a_precision_that_the_named_runtime_lacks_is_a_problem(good: Path, runtime: str, wanted: str) -> None:
    text = good.read_text()
    good.write_text(text.replace("model.onnx}", f"model.onnx, runtime: {runtime}, {wanted}}}"))
    done = onpace("check", good)
    assert done.returncode == 2
    assert f"{good}:4: infer.precision: runtime '{runtime}' runs no " in done.stderr
    assert f"{good}:4: infer.precision: runtime '{runtime}' runs no " in onpace("run", good).stderr
    good.write_text(text.replace("model.onnx}", f"model.onnx, {wanted}}}"))
    assert onpace("check", good).returncode == 0, "another runtime may have it"


def test_a_precision_of_a_file_that_is_in_one_already_is_a_problem(good: Path) -> None:
    planted_detector(good.parent / "half.onnx", (96, 96), [], dtype="float16")
    text = good.read_text()
    good.write_text(text.replace("model.onnx}", "half.onnx, precision: fp32}"))
    done = onpace("check", good)
    assert done.returncode == 2
    assert f"{good}:4: infer.precision" in done.stderr and "is fp16 already" in " ".join(done.stderr.split())
    good.write_text(text.replace("model.onnx}", "half.onnx}"))
    assert onpace("check", good).returncode == 0
