"""Messages of every released schema version decode for ever, to the same values."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from pipeline.publish.messages import Message
from tests.golden.make_golden import FOLDER, golden_messages

FILES = sorted(path for path in FOLDER.iterdir() if path.suffix in (".json", ".msgpack"))


def _decode(path: Path, payload: bytes) -> Message:
    library = msgspec.json if path.suffix == ".json" else msgspec.msgpack
    message: Message = library.decode(payload, type=Message)
    return message


def test_there_are_golden_messages_of_both_kinds_and_encodings() -> None:
    assert len(FILES) == 2 * len(golden_messages()) == 8


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_golden_message_still_means_the_same(path: Path) -> None:
    version, name = path.stem.split("_", 1)
    assert version == "v1"
    assert _decode(path, path.read_bytes()) == golden_messages()[name]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_fields_of_a_later_release_are_ignored(path: Path) -> None:
    library = msgspec.json if path.suffix == ".json" else msgspec.msgpack
    fields = library.decode(path.read_bytes())
    later = {**fields, "a_new_field": {"of": ["a", "later", "release"]}}
    later["objects"] = [{**one, "new_too": 1} for one in fields.get("objects", [])]
    assert _decode(path, library.encode(later)) == _decode(path, path.read_bytes())


@pytest.mark.parametrize("name", sorted(golden_messages()))
def test_what_is_sent_today_is_the_golden_message_and_new_fields_come_last(name: str) -> None:
    today = msgspec.msgpack.decode(msgspec.msgpack.encode(golden_messages()[name]))
    golden = msgspec.msgpack.decode((FOLDER / f"v1_{name}.msgpack").read_bytes())
    assert list(today.items())[: len(golden)] == list(golden.items())
    assert json.loads((FOLDER / f"v1_{name}.json").read_bytes()) == json.loads(msgspec.json.encode(golden))
