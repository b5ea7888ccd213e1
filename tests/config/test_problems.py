"""Every kind of problem: its line, its key path, its value, what is allowed, what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.load import config_from_mapping, load, load_config
from pipeline.errors import ConfigError
from tests.config.conftest import Check

GOOD = """\
streams:
  - id: lobby
    url: rtsp://192.0.2.1/one
  - id: film
    url: clip.mp4
infer:
  model: model.onnx
publish:
  sinks: ["zmq:tcp://127.0.0.1:5555"]
"""


def test_a_good_configuration_loads_without_warnings(folder: Path) -> None:
    path = folder / "good.yaml"
    path.write_text(GOOD)
    loaded = load(path, env={})
    assert loaded.warnings == ()
    assert loaded.config.infer.model == str(folder / "model.onnx")
    assert loaded.config.streams[1].url == str(folder / "clip.mp4")


def test_all_problems_are_reported_at_once_in_the_order_of_lines(problems_of: Check) -> None:
    found = problems_of(
        """\
streams:
  - id: lobby
    url: rtps://admin:hunter2@192.0.2.1/one
    queue_frmes: 4
  - id: lobby
    url: rtsp://192.0.2.2/one
    policy: block
decode:
  queue_frames: 0
infer:
  model: absent.onnx
  prefer: latncy
publish:
  sinks: ["zmq:tcp://127.0.0.1:99999"]
"""
    )
    assert [(problem.line, problem.path) for problem in found] == [
        (3, "streams[0].url"),
        (4, "streams[0].queue_frmes"),
        (5, "streams[1].id"),
        (7, "streams[1].policy"),
        (9, "decode.queue_frames"),
        (11, "infer.model"),
        (12, "infer.prefer"),
        (14, "publish.sinks[0]"),
    ]
    text = "\n".join(map(str, found))
    assert "hunter2" not in text
    assert "cameras.yaml:4: streams[0].queue_frmes: unknown key. Did you mean 'queue_frames'?" in text
    assert "cameras.yaml:9: decode.queue_frames: 0 is too small; allowed 1 to 512." in text
    assert "'latncy' is unknown; allowed: auto, latency, throughput. Did you mean 'latency'?" in text


TAIL = "infer: {model: model.onnx}\n"
FILM = "streams: [{id: a, url: clip.mp4}]\n"


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        (TAIL, "streams", "is missing"),
        (FILM, "infer", "is missing"),
        ("", "streams", "is missing"),
        ("streams: []\n" + TAIL, "streams", "has 0 entries; allowed 1 to 1024"),
        ("streams: [{id: a}]\n" + TAIL, "streams[0].url", "is missing"),
        ("streams: [{id: 'a b', url: clip.mp4}]\n" + TAIL, "streams[0].id", "'a b' cannot be a name; allowed: letters"),
        ("streams: [{id: 12, url: clip.mp4}]\n" + TAIL, "streams[0].id", "12 is not text; put it in quotes"),
        ("streams: [{id: a, url: 'ftp://h/x'}]\n" + TAIL, "streams[0].url", "not allowed. Allowed: rtsp://"),
        ("streams: [{id: a, url: 'rtsp://h/x', loop: yes}]\n" + TAIL, "streams[0].loop", "has no end"),
        ("streams: [{id: a, url: 'camera:0', policy: block}]\n" + TAIL, "streams[0].policy", "make the camera wait"),
        ("streams: [{id: a, url: clip.mp4, loop: 1}]\n" + TAIL, "streams[0].loop", "1 is not true or false"),
        (
            "streams: [{id: a, url: 'rtsp://h/x'}]\ndecode: {policy: block}\n" + TAIL,
            "decode.policy",
            "the camera of streams[0] wait",
        ),
        (FILM + TAIL + "queue_frames: 4\n", "queue_frames", "is a key of streams and of decode"),
        (FILM + TAIL + "decode: 5\n", "decode", "5 is not a mapping"),
        (FILM + TAIL + "decode: {threads: true}\n", "decode.threads", "true is not a number"),
        (FILM + TAIL + "decode: {threads: 1.5}\n", "decode.threads", "1.5 is not a whole number"),
        (FILM + TAIL + "source: {read_timeout: 5}\n", "source.read_timeout", "a duration needs a unit"),
        (FILM + TAIL + "source: {read_timeout: 1h}\n", "source.read_timeout", "'1h' is too large; allowed 100ms to 5m"),
        (FILM + TAIL + "postprocess: {score_threshold: .nan}\n", "postprocess.score_threshold", "not a finite number"),
        (FILM + TAIL + "postprocess: {classes: [1.5]}\n", "postprocess.classes[0]", "is not a class name or index"),
        (FILM + TAIL + "publish: {sinks: 'x'}\n", "publish.sinks", "'x' is not a list"),
        (FILM + TAIL + "publish: {sinks: ['jsnl:x']}\n", "publish.sinks[0]", "Did you mean 'jsonl'?"),
        (FILM + TAIL + "publish: {sinks: ['zmq:udp://h:1']}\n", "publish.sinks[0]", "expected tcp://HOST:PORT"),
        (FILM + TAIL + "publish: {sinks: ['zmq:tcp://h:0']}\n", "publish.sinks[0]", "from 1 to 65535"),
        (FILM + TAIL + "publish: {sinks: ['jsonl:no/x']}\n", "publish.sinks[0]", "the folder does not exist"),
        (FILM + TAIL + "publish: {sinks: ['jsonl:.']}\n", "publish.sinks[0]", "is a folder"),
        (FILM + TAIL + "publish: {sinks: ['jsonl:x', 'jsonl:x']}\n", "publish.sinks[1]", "written twice"),
        (FILM + TAIL + TAIL, "infer", "written twice, first on line 2"),
        (FILM + "infer: {model: 'sample:absent.onnx'}\n", "infer.model", "no such sample"),
        (FILM + "infer: {model: !!python/name:os.system x}\n", "infer.model", "tags"),
        ("&a streams: &b [*b]\n" + TAIL, "streams[0]", "refers to what holds it"),
    ],
)
def test_each_kind_of_problem_is_named_where_it_is(problems_of: Check, text: str, path: str, message: str) -> None:
    found = [problem for problem in problems_of(text) if problem.path == path]
    assert len(found) == 1, problems_of(text)
    assert message in found[0].message


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("streams:\n  - id: a\n   url: b\n", 3),
        ("streams:\n  - id: 'a\n", 3),
        ("a: 1\n---\nb: 2\n", 2),
        ("streams: []\ninfer: @x\n", 2),
        ("streams: []\nx: \x01\n", 2),
    ],
)
def test_a_syntax_error_has_its_line(problems_of: Check, text: str, line: int) -> None:
    (problem,) = problems_of(text)
    assert problem.line == line
    assert "not valid YAML" in problem.message


@pytest.mark.parametrize("password", ["*hunter2", "&hunter2 x: y", "!hunter2", "@hunter2", "%hunter2", "`hunter2"])
def test_a_password_that_yaml_cannot_read_is_not_shown(problems_of: Check, password: str) -> None:
    found = problems_of(f"streams:\n  - id: a\n    url: clip.mp4\n    password: {password}\n" + TAIL)
    assert found
    assert "hunter2" not in "\n".join(map(str, found))


def test_on_and_off_are_words_where_text_is_meant_and_switches_where_a_switch_is(folder: Path) -> None:
    path = folder / "words.yaml"
    path.write_text("streams: [{id: on, url: clip.mp4, realtime: yes}, {id: no, url: clip.mp4}]\n" + TAIL)
    config = load_config(path, env={})
    assert [stream.id for stream in config.streams] == ["on", "no"]
    assert config.streams[0].realtime is True
    assert config.track.tracker == "off"


def test_anchors_and_merges_share_settings_between_streams(folder: Path) -> None:
    path = folder / "shared.yaml"
    path.write_text(
        "streams:\n  - &camera\n    id: a\n    url: rtsp://h/1\n    read_timeout: 8s\n"
        "  - <<: *camera\n    id: b\n" + TAIL + "decode:\n"
    )
    config = load_config(path, env={})
    assert config.streams[1].url == "rtsp://h/1"
    assert config.streams[1].read_timeout == 8.0


def test_aliases_that_multiply_end_in_a_problem(problems_of: Check) -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}, *a{n - 1}]" for n in range(1, 12)]
    assert any("aliases counted" in problem.message for problem in problems_of("\n".join(lines)))


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"[" * 5000, b"x" * (1024 * 1024 + 1)])
def test_a_file_that_is_no_configuration_is_a_config_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"x\.yaml"):
        load_config(path, env={})


@pytest.mark.parametrize(
    ("address", "warned"),
    [("0.0.0.0", True), ("*", True), ("192.0.2.1", True), ("127.0.0.1", False), ("localhost", False), ("[::1]", False)],
)
def test_an_address_that_other_machines_reach_is_a_warning(folder: Path, address: str, warned: bool) -> None:
    path = folder / "open.yaml"
    path.write_text(FILM + TAIL + f"publish:\n  sinks:\n    - zmq:tcp://{address}:5555\n")
    warnings = load(path, env={}).warnings
    assert [warning.line for warning in warnings] == ([5] if warned else [])


def test_a_mapping_is_checked_like_a_file_and_without_lines(folder: Path) -> None:
    data = {"streams": [{"id": "a", "url": "clip.mp4"}], "infer": {"model": "absent.onnx", "threads": 0}}
    with pytest.raises(ConfigError) as error:
        config_from_mapping(data, origin="command line", folder=folder)
    assert str(error.value).splitlines() == [
        "command line: infer.model: 'absent.onnx': no such file.",
        "command line: infer.threads: 0 is too small; allowed 1 to 1024.",
    ]


def test_int8_without_calibration_is_a_problem_and_its_paths_are_the_configurations(
    folder: Path, problems_of: Check
) -> None:
    asked = GOOD.replace("model: model.onnx", "model: model.onnx\n  precision: int8")
    (problem,) = problems_of(asked)
    assert (problem.line, problem.path) == (8, "infer.precision")
    assert "Write infer.calibration beside it" in str(problem)
    path = folder / "calibrated.yaml"
    path.write_text(asked.replace("precision: int8", "precision: int8\n  calibration: [clip.mp4, 'images:stills']"))
    assert load_config(path).infer.calibration == [str(folder / "clip.mp4"), f"images:{folder / 'stills'}"]


@pytest.mark.parametrize("value", ["5", "2h", "5ms", "never", "true"])
def test_a_deadline_is_auto_or_a_duration_within_bounds(problems_of: Check, value: str) -> None:
    found = problems_of(GOOD + f"overload:\n  deadline: {value}\n")
    assert [(problem.line, problem.path) for problem in found] == [(11, "overload.deadline")]
    assert "auto is expected, or a duration of 10ms to 1h" in found[0].message
