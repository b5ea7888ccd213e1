"""What ``onpace run`` does when its own output fails, and how it words what is wrong with its arguments."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.onpace_process import REPOSITORY, onpace
from tests.helpers.tiny_onnx import do_nothing_detector

RUN = [sys.executable, "-m", "pipeline.cli.main", "run", "pattern:?frames=60&size=160x96", "--realtime"]
needs_a_full_disk = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


@pytest.fixture
def model(tmp_path):
    return do_nothing_detector(tmp_path / "nothing.onnx", size=(160, 96))


@needs_a_full_disk
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_full_disk_under_standard_output_does_not_end_the_run(model, tmp_path, options):
    file = tmp_path / "summary.json"
    with Path("/dev/full").open("w") as full:
        command = [*RUN, "--model", str(model), "--summary", str(file), *options]
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY, timeout=60, check=False
        )
    assert "Traceback" not in done.stderr
    assert json.loads(file.read_text())["streams"][0]["received"] == 60
    if options:
        assert "onpace: the summary cannot be printed: No space left on device." in done.stderr
        assert done.returncode == 1
    else:
        warning = "status lines cannot be written (No space left on device): the run goes on without them."
        assert done.stderr.count(warning) == 1
        assert done.returncode == 0


def test_a_reader_that_leaves_does_not_end_the_run(model, tmp_path):
    file = tmp_path / "summary.json"
    reading, writing = os.pipe()
    os.close(reading)
    command = [*RUN, "--model", str(model), "--summary", str(file)]
    done = subprocess.run(
        command, stdout=writing, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY, timeout=60, check=False
    )
    os.close(writing)
    assert "Traceback" not in done.stderr
    assert done.returncode == 0
    assert json.loads(file.read_text())["streams"][0]["received"] == 60


@needs_a_full_disk
def test_a_summary_that_cannot_be_written_is_still_printed(model):
    done = onpace("run", "pattern:?frames=5", "--model", model, "--summary", "/dev/full", "--json")
    assert done.wait() == 1
    assert done.stderr.splitlines()[-1] == "onpace: --summary /dev/full: cannot be written: No space left on device."
    assert json.loads(done.stdout)["streams"][0]["received"] == 5


def test_texts_of_the_summary_stay_on_one_line_where_no_terminal_is(model):
    done = onpace("run", "pattern:?size=6400x6400", "--model", model)
    assert any(
        "more pixels than" in line and line.endswith("Raise it, or choose a smaller stream of the camera.")
        for line in done.stdout.splitlines()
    ), done.stdout


def test_what_is_wrong_is_said_in_one_line(model, tmp_path):
    (tmp_path / "folder").mkdir()
    folder, alone = tmp_path / "folder", "is a configuration and runs alone: write the other sources into its streams."
    cases: list[tuple[list[str | Path], str]] = [
        (["absent.mp4", "--model", model], "'absent.mp4': no such file."),
        (["pattern:", "--model", folder], "is a folder. Name an ONNX file in it."),
        (["pattern:", "--model", model, "--summary", folder], "is a folder. Name a file in it."),
        (["pattern:", "--model", model, "--sink", "jsonl:"], "zmq:tcp://HOST:PORT, zmq:ipc://PATH, jsonl:PATH."),
        (["configs/minimal.yaml", "pattern:"], alone),
    ]
    for arguments, message in cases:
        done = onpace("run", *arguments)
        assert done.wait() == 2
        (line,) = done.stderr.splitlines()
        assert line.endswith(message)


def test_what_the_system_refuses_is_one_line_and_passwords_in_arguments_are_not_shown(model, tmp_path):
    cases = [
        (("compare", model, "--runtimes", "cpu", "--precisions", "fp32", "--rounds", "1", "--seconds", "0.05",
          "--markdown", tmp_path / "absent" / "t.md"), "t.md"),
        (("eval", "http://admin:canary@host/x.onnx", tmp_path), "http://***@host/x.onnx"),
    ]  # fmt: skip
    for arguments, told in cases:
        done = onpace(*arguments)
        assert done.wait() in (1, 2)
        line = done.stderr.splitlines()[-1]
        assert line.startswith("onpace: ") and told in line
        assert "Traceback" not in done.stderr and "canary" not in done.stderr


def test_help_fills_its_lines():
    text = onpace("check", "--help", env={"COLUMNS": "90", "NO_COLOR": "1"}).stdout
    start = text.index("JSON keys:")
    paragraph = re.split(r"\n\s*\n", text[start:])[0].splitlines()
    assert all(len(line.rstrip()) > 70 for line in paragraph[1:-1])
