"""The commands of the README are run, not believed."""

from __future__ import annotations

import json
import re
import shlex
import subprocess

import pytest

from tests.helpers.numbered_clip import NumberedClip
from tests.helpers.onpace_process import REPOSITORY, OnpaceProcess, onpace
from tests.helpers.rtsp_process import RtspServerProcess
from tests.helpers.tiny_onnx import do_nothing_detector

README = (REPOSITORY / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
LINES = [line.partition("  #")[0].strip() for kind, block in BLOCKS if kind == "sh" for line in block.splitlines()]


def commands(start: str) -> list[str]:
    """Every shell line of the README that begins so."""
    return [line for line in LINES if line.startswith(start)]


@pytest.fixture
def folder(tmp_path):
    """A folder with what the README's commands name."""
    do_nothing_detector(tmp_path / "yolox_nano.onnx", layout="yolox")
    (tmp_path / "lobby.mp4").symlink_to(REPOSITORY / "samples" / "street.mp4")
    (block,) = (text for kind, text in BLOCKS if kind == "yaml")
    (tmp_path / "cameras.yaml").write_text(block)
    return tmp_path


def test_the_first_screen_names_the_two_commands():
    assert {"make demo", "make test"} <= set(LINES)
    assert README.index("make test") < 1200


@pytest.mark.parametrize("line", commands("make "))
def test_every_make_target_exists(line):
    done = subprocess.run([*shlex.split(line), "-n"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("line", re.findall(r"\]\(([\w./-]+)\)", README))
def test_every_link_leads_somewhere(line):
    assert (REPOSITORY / line).exists()


def test_the_configuration_of_the_readme_is_right(folder):
    (line,) = commands("onpace check")
    process = onpace(*shlex.split(line)[1:], cwd=folder, env={"DOOR_PASSWORD": "canary"})
    assert process.wait() == 0, process.stderr
    assert "canary" not in process.stdout + process.stderr


def test_doctor_finds_that_the_main_job_works_here():
    (line,) = commands("onpace doctor")
    process = onpace(*shlex.split(line)[1:])
    assert process.wait() == 0, process.stdout


@pytest.mark.e2e
def test_running_and_listening_work_as_written(folder, tmp_path):
    run, listen = (shlex.split(commands(f"onpace {name}")[0])[1:] for name in ("run rtsp", "listen"))
    clip = NumberedClip.make(tmp_path, fps=25, frames=100)
    with RtspServerProcess() as server:
        camera = server.add_camera("stream1", clip, user="user", password="password")
        run = [camera.url if argument.startswith("rtsp://") else argument for argument in run]
        with (
            OnpaceProcess(*listen, "--json", cwd=folder) as listener,
            OnpaceProcess(*run, "--for", "6s", "--summary", tmp_path / "summary.json", cwd=folder) as runner,
        ):
            assert runner.wait(60) == 0, runner.stderr
            assert listener.wait(30) == 0, listener.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [stream["id"] for stream in summary["streams"]] == ["stream1", "lobby"]
    assert all(stream["published"] > 20 for stream in summary["streams"])
    assert '"detections"' in listener.stdout
