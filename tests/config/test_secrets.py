"""Where secrets come from, and that they go nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.load import load_config
from tests.config.conftest import Check

TAIL = "infer: {model: model.onnx}\n"


def _password(folder: Path, written: str, **env: str) -> str | None:
    path = folder / "secret.yaml"
    path.write_text(f"streams:\n  - id: a\n    url: rtsp://h/1\n    username: u\n    password: {written}\n" + TAIL)
    password = load_config(path, env=env).streams[0].password
    return None if password is None else password.get_secret_value()


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("${PW}", "from-env"),
        ("${NOT_SET:-fallback}", "fallback"),
        ("${EMPTY:-fallback}", "fallback"),
        ("pre-${PW}-post", "pre-from-env-post"),
        ("${file:pw.txt}", "from-file"),
        ("a$$b", "a$b"),
        ("$${PW}", "${PW}"),
        ("a$b", "a$b"),
        ("${NUMBER}", "12345"),
        ("null", None),
    ],
)
def test_references_are_filled_in(folder: Path, written: str, value: str | None) -> None:
    (folder / "pw.txt").write_text("from-file\n")
    assert _password(folder, written, PW="from-env", EMPTY="", NUMBER="12345") == value


def test_a_number_may_come_from_the_environment(folder: Path) -> None:
    path = folder / "n.yaml"
    path.write_text(
        "streams: [{id: a, url: clip.mp4, realtime: '${R}'}]\ninfer: {model: model.onnx, threads: '${N}'}\n"
    )
    config = load_config(path, env={"N": "3", "R": "true"})
    assert config.infer.threads == 3
    assert config.streams[0].realtime is True


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("${PW}", "the environment variable PW is not set"),
        ("${file:absent}", "${file:absent} cannot be read: No such file or directory"),
        ("${file:binary}", "it is not UTF-8 text"),
        ("${1x}", "'${' begins a reference"),
        ("${PW", "'${' begins a reference"),
    ],
)
def test_a_reference_that_cannot_be_filled_in_is_one_problem(
    folder: Path, problems_of: Check, written: str, message: str
) -> None:
    (folder / "binary").write_bytes(b"\xff\xfe")
    found = problems_of(f"streams:\n  - id: a\n    url: clip.mp4\n    username: '{written}'\n" + TAIL)
    assert [problem.line for problem in found] == [4]
    assert message in found[0].message


@pytest.mark.parametrize(
    "line",
    [
        "queue_frames: ${PW}",
        "id: ${PW}!",
        "policy: ${PW}",
        "open_timeout: ${PW}",
        "realtime: ${PW}",
        "transport: x${PW}",
        "url: hunter2://h/${PW}",
        "url: rtsp://admin:hunter2@h:99999/x",
        "url: hunter2@h ftp://x:hunter2@h",
        "password: {x: hunter2}",
        "password: [hunter2]",
        "pasword: hunter2",
        "passphrase: hunter2",
        "id: rtsp://admin:hunter2@h/x",
    ],
)
def test_a_problem_never_shows_a_secret(problems_of: Check, line: str) -> None:
    base = {"id": "id: a", "url": "url: clip.mp4"}
    key = line.partition(":")[0]
    lines = [text for name, text in base.items() if name != key] + [line.replace("hunter2://", "ftp://")]
    found = problems_of("streams:\n  - " + "\n    ".join(lines) + "\n" + TAIL, PW="hunter2")
    assert found
    assert "hunter2" not in "\n".join(f"{problem} {problem.value}" for problem in found)


def test_a_loaded_configuration_does_not_print_its_password(folder: Path) -> None:
    path = folder / "p.yaml"
    path.write_text("streams: [{id: a, url: 'rtsp://h/1', username: u, password: hunter2}]\n" + TAIL)
    assert "hunter2" not in repr(load_config(path, env={}))
