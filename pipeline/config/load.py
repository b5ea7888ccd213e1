"""Loads a configuration and reports everything that is wrong with it at once, each with its file and line.

``python -m pipeline.config.load --schema`` prints the JSON Schema that is kept as ``configs/onpace.schema.json``.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from pipeline.config.checks import check_meaning, resolve_paths
from pipeline.config.explain import all_sections, explain, is_duration, limits
from pipeline.config.marked_yaml import Document, read_yaml
from pipeline.config.problem import InvalidConfig, Problem
from pipeline.config.sections import Config, StreamSection
from pipeline.config.values import format_duration

_LARGEST_FILE_BYTES = 1024 * 1024
_SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that can be used, and what is worth knowing about it."""

    config: Config
    """Paths in it are absolute."""
    document: Document = field(repr=False)
    """What it was read from: knows the line of every value."""
    warnings: tuple[Problem, ...] = ()


def load(path: Path, *, env: Mapping[str, str] = os.environ) -> Loaded:
    """Load a YAML file; ``${NAME}`` in it comes from ``env``. Raises InvalidConfig with every problem."""
    document = Document(str(path), path.absolute().parent)
    text = _read(path, document)
    if text is not None:
        read_yaml(text, document, env)
    return _loaded(document)


def load_config(path: Path, *, env: Mapping[str, str] = os.environ) -> Config:
    """Load a YAML file without its warnings. Raises ConfigError with every problem, a line each."""
    return load(path, env=env).config


def load_mapping(data: Mapping[str, Any], *, origin: str = "configuration", folder: Path | None = None) -> Loaded:
    """Check plain data as a file is checked. Nothing is filled in; paths are relative to ``folder`` or to here.

    ``origin`` stands in messages where a file's name would. Raises InvalidConfig with every problem.
    """
    return _loaded(Document(origin, (folder or Path()).absolute(), dict(data)))


def config_from_mapping(
    data: Mapping[str, Any], *, origin: str = "configuration", folder: Path | None = None
) -> Config:
    """As ``load_mapping``, without the warnings."""
    return load_mapping(data, origin=origin, folder=folder).config


def stream_from_mapping(data: Mapping[str, Any], config: Config, *, folder: Path | None = None) -> StreamSection:
    """Check one more stream for ``config`` as the streams of a file are checked.

    Raises InvalidConfig with every problem; their paths begin at the stream: "url", not "streams[0].url".
    """
    whole = {
        "streams": [dict(data)],
        "infer": {"model": config.infer.model},
        "decode": {"policy": config.decode.policy},
    }
    try:
        return config_from_mapping(whole, origin="request", folder=folder).streams[0]
    except InvalidConfig as error:
        within = "streams[0]"
        problems = (replace(one, path=one.path.removeprefix(within).removeprefix(".")) for one in error.problems)
        raise InvalidConfig(problems) from None


def json_schema() -> dict[str, Any]:
    """Return the schema of the file, for editors."""
    schema = {"$schema": _SCHEMA_DIALECT, **Config.model_json_schema(), "title": "Onpace configuration"}
    for section in all_sections():
        properties = schema["properties"] if section is Config else schema["$defs"][section.__name__]["properties"]
        for name, info in section.model_fields.items():
            _finish_property(properties[name], info)
    _drop_titles(schema)
    return schema


def _read(path: Path, document: Document) -> str | None:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE_BYTES + 1)
        if len(content) > _LARGEST_FILE_BYTES:
            document.problem((), "larger than 1 MiB. Is it a configuration?")
            return None
        return content.decode("utf-8-sig")
    except FileNotFoundError:
        document.problem((), "no such file.")
    except OSError as error:
        document.problem((), f"cannot be read: {error.strerror}.")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        document.problem((), "not UTF-8 text. Save it as UTF-8.", line=line)
    return None


def _loaded(document: Document) -> Loaded:
    if () not in document.unusable:
        if isinstance(document.data, dict):
            check_meaning(document)
        config = _validated(document)
        if config is not None and not document.problems:
            return Loaded(config, document, tuple(document.warnings))
    raise InvalidConfig(sorted(document.problems, key=lambda problem: problem.line or 0))


def _validated(document: Document) -> Config | None:
    try:
        return Config.model_validate(resolve_paths(document))
    except ValidationError as error:
        explain(error, document)
        return None


def _finish_property(schema: dict[str, Any], field: FieldInfo) -> None:
    """Add what pydantic leaves out where a validator stands before a number: its limits, and a duration's default."""
    if isinstance(field.default, BaseModel):
        schema.pop("default", None)  # each of its keys says its own
        return
    low, high = limits(field)
    number = schema.get("anyOf", [schema])[0]
    number.pop("ge", None)
    number.pop("le", None)
    if is_duration(field):
        if field.default is not None:
            schema["default"] = format_duration(field.default)
        schema["description"] += f" {format_duration(low)} to {format_duration(high)}."
    elif number.get("type") in ("integer", "number") and low is not None:
        number["minimum"], number["maximum"] = low, high


def _drop_titles(schema: Any) -> None:
    """Remove the titles that pydantic makes of the keys' names: editors show them in place of the keys."""
    if isinstance(schema, dict):
        for name, value in list(schema.items()):
            if name == "title" and isinstance(value, str) and value != "Onpace configuration":
                del schema[name]
            else:
                _drop_titles(value)
    elif isinstance(schema, list):
        for item in schema:
            _drop_titles(item)


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline.config.load", description=__doc__)
    parser.add_argument("--schema", action="store_true", required=True, help="print the JSON Schema")
    parser.parse_args()
    print(json.dumps(json_schema(), indent=2))


if __name__ == "__main__":
    _main()
