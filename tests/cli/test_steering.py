"""``onpace streams`` and ``onpace top`` against a running pipeline."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time

import pytest
import yaml
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.config.load import load_config
from pipeline.pipeline import Pipeline
from tests.dashboard.steering import Steered, wait_until
from tests.helpers.onpace_process import REPOSITORY, OnpaceProcess
from tests.helpers.tiny_onnx import do_nothing_detector

TOKEN = "a-token-that-is-long-enough"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A pipeline from a file that keeps changes, wants a token, and publishes."""
    folder = tmp_path_factory.mktemp("steered")
    file = folder / "cameras.yaml"
    config = {
        "streams": [{"id": "s0", "url": "pattern:?size=64x64&fps=25", "realtime": True}],
        "infer": {"model": str(do_nothing_detector(folder / "nothing.onnx", size=(160, 96))), "runtime": "cpu"},
        "publish": {"sinks": [f"zmq:ipc://{folder}/messages"], "status_interval": "200ms"},
        "dashboard": {"listen": "127.0.0.1:0", "token": TOKEN, "stay": True, "save": True},
    }
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    with Pipeline(load_config(file), file) as pipeline:
        found = Steered(pipeline)
        pipeline.start()
        yield found


def streams(running, *arguments, token=TOKEN):
    """Run `onpace streams ARGUMENTS`; return the exit code and what it printed."""
    result = CliRunner().invoke(
        app, ["streams", *arguments, "--at", running.address], env={"ONPACE_TOKEN": token}, terminal_width=120
    )
    return result.exit_code, result.output


def saved(running):
    return {stream.id: stream for stream in load_config(running.pipeline.config_file).streams}


def test_streams_are_listed_added_changed_paused_and_removed_and_kept_in_the_file(running):
    code, text = streams(running, "add", "door", "pattern:?fps=20", "realtime=true", "tracker=off", "deadline=2s")
    assert (code, text.strip()) == (0, "door was added")
    assert (saved(running)["door"].deadline, saved(running)["door"].tracker) == (2.0, "off")
    code, text = streams(running, "list")
    assert code == 0
    assert "door" in text and "s0" in text and "pattern:?fps=20" in text
    code, text = streams(running, "list", "--json")
    assert [stream["id"] for stream in json.loads(text)["streams"]] == ["s0", "door"]
    assert streams(running, "change", "door", "weight=2", "deadline=null")[0] == 0
    assert (saved(running)["door"].weight, saved(running)["door"].deadline) == (2.0, None)
    for action, said in (("pause", "is paused"), ("resume", "is resumed"), ("restart", "is opened again")):
        code, text = streams(running, action, "door")
        assert (code, text.strip()) == (0, f"door {said}")
    code, text = streams(running, "remove", "door", "--json")
    assert (code, json.loads(text)["gone"]) == (0, True)
    assert list(saved(running)) == ["s0"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["pause", "nobody"], 2, "no such stream. There are: s0"),
        (["add", "s0", "pattern:"], 2, "another name"),
        (["change", "s0", "weight=-1", "wieght=1"], 2, "allowed 0.01 to 100"),
        (["change", "s0", "weight"], 2, "KEY=VALUE"),
    ],
)
def test_what_is_refused_says_why_and_ends_with_2(running, capfd, arguments, code, words):
    found, text = streams(running, *arguments)
    assert (found, "Traceback" in text) == (code, False)
    assert words in text + capfd.readouterr().err


def test_a_wrong_token_and_a_server_that_is_not_there_differ(running, capfd):
    code, text = streams(running, "list", token="wrong-token-wrong-token")
    assert (code, "a token is needed" in text) == (2, True)
    runner = CliRunner()
    result = runner.invoke(app, ["streams", "list", "--at", "http://127.0.0.1:9"])
    assert (result.exit_code, "Is a pipeline running there" in result.output) == (1, True)
    result = runner.invoke(app, ["streams", "list", "--at", "file:///etc/passwd"])
    assert (result.exit_code, "http://127.0.0.1:8080" in result.output) == (2, True)


def endpoint(running):
    return running.pipeline.config.publish.sinks[0].removeprefix("zmq:")


def test_top_shows_statuses_as_lines_where_there_is_no_terminal(running):
    with OnpaceProcess("top", endpoint(running), "--for", "2s") as process:
        assert process.wait(60) == 0, process.stderr
    assert process.stdout.startswith("s0: ")
    assert "published" in process.stdout


def test_top_says_that_nothing_comes(tmp_path):
    with OnpaceProcess("top", f"ipc://{tmp_path}/nobody") as process:
        process.wait_for("is a pipeline publishing there?")
        process.signal(signal.SIGINT)
        assert process.wait(20) == 1
    assert "nothing came from ipc://" in process.stderr


@pytest.mark.parametrize("key", [b"q", b"\x03"])
def test_top_on_a_terminal_is_left_with_a_key_and_leaves_the_terminal_as_it_was(running, key):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "pipeline.cli.main", "top", endpoint(running)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "30"}
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=REPOSITORY, env=environment, start_new_session=True
    )
    import termios

    before = termios.tcgetattr(theirs)
    seen = b""
    os.set_blocking(ours, False)
    until = time.monotonic() + 60
    while b"s0" not in seen and time.monotonic() < until:
        try:
            seen += os.read(ours, 65536)
        except BlockingIOError:
            time.sleep(0.05)
    assert b"verdict" in seen
    if key == b"q":
        os.write(ours, key)
    else:
        process.send_signal(signal.SIGINT)  # what the terminal makes of Ctrl-C
    wait_until(lambda: process.poll() is not None, "its end", 20)
    assert process.returncode == 0
    assert termios.tcgetattr(theirs)[3] == before[3]
    os.close(ours)
    os.close(theirs)
