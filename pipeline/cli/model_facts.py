"""``--set key=value``: facts about a model, stated on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from engines.inspect_model import read_model_spec
from engines.model_spec import ModelSpec
from pipeline.errors import InputError
from pipeline.samples import find_model

HELP = "State a fact about the model, as in --set classes=coco or --set pixels.order=bgr; may be repeated."


def find_spec(model: str, facts: Sequence[str]) -> tuple[Path, ModelSpec]:
    """Return the model's path and what it is. Raises InputError for malformed facts, ModelError."""
    path = find_model(model)
    return path, read_model_spec(path, parse_facts(facts))


def parse_facts(facts: Sequence[str]) -> dict[str, object]:
    """Return ``["a=1", "b.c=2"]`` as ``{"a": 1, "b": {"c": 2}}``; values are YAML. Raises InputError."""
    stated: dict[str, object] = {}
    for fact in facts:
        key, sign, text = fact.partition("=")
        group, dot, name = key.strip().partition(".")
        if not sign or not group or (dot and not name):
            raise InputError(f"--set {fact}: must be key=value, as in --set pixels.order=bgr.")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InputError(f"--set {fact}: the value is not YAML: {error}") from error
        if not dot:
            stated[group] = value
            continue
        values = stated.setdefault(group, {})
        if not isinstance(values, dict):
            raise InputError(f"--set {fact}: {group} is a value and a group at once.")
        values[name] = value
    return stated
