"""Whatever is done to a configuration, it loads or it is refused in order, and no secret gets out."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.config.load import load
from pipeline.config.problem import InvalidConfig

CLIP = Path(__file__).parents[2] / "samples/street.mp4"
CANARY = "c4naryS3cret"

BASE: dict[str, Any] = {
    "streams": [
        {"id": "lobby", "url": "rtsp://192.0.2.1/1", "username": "u", "password": "${CANARY}"},
        {"id": "gate", "url": f"rtsp://admin:{CANARY}@192.0.2.2:554/1", "policy": "drop_oldest"},
        {"id": "film", "url": "clip.mp4", "realtime": True, "password": CANARY, "username": "u"},
    ],
    "source": {"open_timeout": "5s", "transport": "tcp"},
    "decode": {"queue_frames": 4, "policy": "auto"},
    "infer": {"model": "model.onnx", "batch_deadline": "5ms"},
    "postprocess": {"classes": ["person", 2], "score_threshold": 0.4},
    "publish": {"sinks": ["zmq:tcp://127.0.0.1:5555", "jsonl:out.jsonl"]},
    "keepup": {"tolerance": 0.02},
}

values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=30),
    st.sampled_from(
        [
            "${CANARY}",
            "x-${CANARY}:1",
            "${CANARY:-" + CANARY + "}",
            "${file:secret.txt}",
            f"rtsp://a:{CANARY}@h:0/x",
            f"rtps://a:{CANARY}@h/x",
            f"http://a:b@{CANARY}@/x",
            f"zmq:tcp://a:{CANARY}@h:1",
            f"jsonl:http://u:{CANARY}@h/x",
            "zmq:tcp://*:70000",
            "block",
            "camera:0",
            "sample:nothing",
            "5s",
            "",
            "${",
            "$$",
        ]
    ),
    st.lists(st.integers(), max_size=2),
    st.builds(dict, password=st.just(CANARY)),
)


def _places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [found for key, value in items for found in [(*path, key), *_places(value, (*path, key))]]


@st.composite
def mutated(draw: st.DrawFn) -> str:
    data = copy.deepcopy(BASE)
    for _ in range(draw(st.integers(1, 4))):
        places = _places(data)
        if not places:
            break
        *parents, key = draw(st.sampled_from(places))
        holder: Any = data
        for part in parents:
            holder = holder[part]
        change = draw(st.sampled_from(["replace", "replace", "remove", "add", "rename"]))
        if change == "replace":
            holder[key] = draw(values)
        elif change == "remove":
            del holder[key]
        elif isinstance(holder, list):
            holder.append(draw(values))
        elif change == "add":
            holder[draw(st.text(max_size=12))] = draw(values)
        else:
            holder[key[:-1] + draw(st.sampled_from(["", "x", "s"]))] = holder.pop(key)
    text: str = yaml.safe_dump(data, allow_unicode=draw(st.booleans()))
    if draw(st.booleans()):  # damage the text too, but never cut into a secret
        lines = text.splitlines()
        lines.insert(draw(st.integers(0, len(lines))), draw(st.text("ab:-[]{}&*!#'\"\t ", max_size=8)))
        text = "\n".join(lines)
    return text


@settings(max_examples=400, deadline=None)
@given(mutated())
@example("streams: {a: b}\n")
@example("[]")
@example("- streams")
@example("? [a, b]\n: c\n")
@example("<<: 5\n")
def test_a_mutated_configuration_loads_or_is_refused_and_shows_no_secret(text: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model.onnx").write_bytes(b"")
        (folder / "clip.mp4").symlink_to(CLIP)
        (folder / "secret.txt").write_text(CANARY)
        path = folder / "x.yaml"
        path.write_text(text, encoding="utf-8", errors="replace")
        try:
            loaded = load(path, env={"CANARY": CANARY})
            printed = "\n".join(map(str, loaded.warnings))
        except InvalidConfig as error:
            assert error.problems
            printed = f"{error}\n{error.problems}"
        assert CANARY not in printed
