"""The reference, the schema and the examples say what the models say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from engines.runtime import RUNTIMES
from pipeline.config.explain import all_sections
from pipeline.config.load import json_schema, load
from pipeline.config.marked_yaml import Document, read_yaml
from pipeline.config.sections import Config, InferSection, StreamSection
from pipeline.config.values import format_duration, parse_duration

CONFIGS = Path(__file__).parents[2] / "configs"
EXAMPLES = sorted(set(CONFIGS.glob("*.yaml")) - {CONFIGS / "alerts.yaml"})  # those are Prometheus' rules
REQUIRED = {"streams", "streams[].id", "streams[].url", "infer.model"}


def _plain(path: Path) -> Any:
    document = Document(str(path), path.parent)
    read_yaml(path.read_text(), document, {"CAMERA_PASSWORD": "x"})
    assert not document.problems
    return document.data


def _keys_of_models() -> dict[str, Any]:
    """Every key with its default, as a file writes it."""
    schema = json_schema()
    keys: dict[str, Any] = {}
    for name, top in Config.model_fields.items():
        keys[name] = ...
        section: type[BaseModel] = StreamSection if name == "streams" else top.annotation  # type: ignore[assignment]
        prefix = "streams[]" if name == "streams" else name
        for key, described in schema["$defs"][section.__name__]["properties"].items():
            keys[f"{prefix}.{key}"] = described.get("default", ...)
    return keys


def _keys_of_reference() -> dict[str, Any]:
    keys: dict[str, Any] = {}
    for name, section in _plain(CONFIGS / "reference.yaml").items():
        keys[name] = ...
        prefix, values = ("streams[]", section[0]) if name == "streams" else (name, section)
        keys.update({f"{prefix}.{key}": value for key, value in values.items()})
    return keys


def test_the_reference_holds_every_key_and_no_other() -> None:
    assert _keys_of_reference().keys() == _keys_of_models().keys()


def test_the_reference_shows_every_default() -> None:
    reference = _keys_of_reference()
    for key, default in _keys_of_models().items():
        if key not in REQUIRED and default is not ...:
            assert reference[key] == default, key


def test_every_key_of_the_reference_has_a_comment_directly_above() -> None:
    lines = (CONFIGS / "reference.yaml").read_text().splitlines()
    for above, line in pairwise(lines):
        if re.match(r"\s*(- )?[a-z_]+:", line):
            assert above.lstrip().startswith("# "), line


def test_every_key_of_the_schema_is_described() -> None:
    for section in all_sections():
        for name, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{name}"


def test_the_committed_schema_is_current() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "pipeline.config.load", "--schema"], capture_output=True, text=True, check=True
    ).stdout
    committed = (CONFIGS / "onpace.schema.json").read_text()
    remedy = "run: python -m pipeline.config.load --schema > configs/onpace.schema.json"
    assert json.loads(printed) == json.loads(committed), remedy


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_schema_validates_the_examples(path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    jsonschema.Draft202012Validator(json_schema()).validate(_plain(path))
    assert path.read_text().startswith("# yaml-language-server: $schema=onpace.schema.json\n")


@pytest.mark.parametrize(
    "wrong",
    [{"decode": {"queue_frames": 0}}, {"decode": {"queue_frame": 1}}, {"source": {"open_timeout": 5}}, {"infer": {}}],
)
def test_the_schema_refuses_what_the_loader_refuses(wrong: dict[str, Any]) -> None:
    data = {**_plain(CONFIGS / "minimal.yaml"), **wrong}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, json_schema())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_load_without_warnings(path: Path) -> None:
    assert load(path, env={"CAMERA_PASSWORD": "x"}).warnings == ()


def test_the_minimal_configuration_is_under_20_lines() -> None:
    assert len((CONFIGS / "minimal.yaml").read_text().splitlines()) < 20


def test_every_runtime_has_its_word() -> None:
    assert set(get_args(InferSection.model_fields["runtime"].annotation)) == {"auto", *RUNTIMES}


def test_examples_are_plain_yaml_for_other_tools() -> None:
    for path in EXAMPLES:
        assert isinstance(yaml.safe_load(path.read_text()), dict)


@given(number=st.integers(0, 10_000), unit=st.sampled_from(["us", "ms", "s", "m", "h"]))
def test_durations_round_trip(number: int, unit: str) -> None:
    seconds = parse_duration(f"{number}{unit}")
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=1e-9)


@pytest.mark.parametrize("wrong", ["5", 5, 5.0, "s", "5 sec", "-5s", "", None, True, "1e3s", "٣s5"])
def test_a_duration_without_a_known_unit_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="needs a unit"):
        parse_duration(wrong)
