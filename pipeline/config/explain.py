"""Says what pydantic found wrong in the words of the configuration file: value, what is allowed, did you mean."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from pipeline.config.marked_yaml import Document
from pipeline.config.problem import KeyPath
from pipeline.config.sections import Config
from pipeline.config.values import format_duration

_KINDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "number_expected": "a number",
    "switch_expected": "true or false",
    "input_expected": "an ONNX file, a side in pixels or [width, height], each side 32 to 16384",
    "class_expected": 'a class name or index, as in "person" or 0',
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_IDS = "letters, digits, '_', '.' and '-', beginning with a letter or digit, at most 64"


def explain(error: ValidationError, document: Document) -> None:
    """Add every problem of ``error`` to ``document``."""
    for details in error.errors(include_url=False):
        if details["type"] != "duplicate_stream_id":  # told with its line by the checks
            path: KeyPath = tuple(details["loc"])
            value, message = _message(details, path, document)
            document.problem(path, message, value)


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return " Did you mean 'x'?", or nothing where none is close."""
    close = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""


def _message(details: ErrorDetails, path: KeyPath, document: Document) -> tuple[str | None, str]:
    kind = details["type"]
    field = _field_at(path)
    # The value of an unknown key is not shown: it may be a misspelt password's.
    if kind == "extra_forbidden":
        return None, _unknown_key(path)
    if kind == "missing":
        return None, f"is missing{_purpose(field)}"
    shown = document.shown(path)
    if kind in ("greater_than_equal", "less_than_equal"):
        word = "small" if kind == "greater_than_equal" else "large"
        return shown, f"{shown} is too {word}; allowed {_range(field)}."
    if kind == "literal_error":
        choices = _choices(field)
        hint = did_you_mean(_unquoted(shown), choices)
        return shown, f"{shown} is unknown; allowed: {', '.join(choices)}.{hint}"
    if kind == "string_pattern_mismatch":
        return shown, f"{shown} cannot be a name; allowed: {_IDS}."
    if kind in ("too_short", "too_long"):
        return shown, f"has {details['ctx']['actual_length']} entries; allowed {_range(field)}."
    if kind == "string_too_short":
        return shown, f"is empty{_purpose(field)}"
    if kind == "value_error":
        return shown, f"{shown}: {details['ctx']['error']}."
    if kind in _KINDS:
        return shown, f"{shown} is not {_KINDS[kind]}{_quote_hint(kind, document.get(path))}."
    return shown, f"{shown} cannot be used: {kind.replace('_', ' ')}."


def _unknown_key(path: KeyPath) -> str:
    key = path[-1]
    if not isinstance(key, str):
        return "unknown key."
    model = _model_at(path[:-1])
    known = list(model.model_fields) if model else []
    hint = did_you_mean(key, known)
    if not hint:
        homes = [name for name, section in _sections() if key in section.model_fields]
        hint = f" '{key}' is a key of {' and of '.join(homes)}." if homes else f" Known here: {', '.join(known)}."
    return f"unknown key.{hint}"


def _sections() -> Iterator[tuple[str, type[BaseModel]]]:
    yield "the top level", Config
    for name, field in Config.model_fields.items():
        model = _model_of(field.annotation)
        if model is not None:
            yield name, model


def _purpose(field: FieldInfo | None) -> str:
    return f". It says: {field.description}" if field and field.description else "."


def _quote_hint(kind: str, value: Any) -> str:
    return "; put it in quotes" if kind == "string_type" and isinstance(value, (int, float, bool)) else ""


def _unquoted(shown: str) -> str:
    return shown.strip("'\"")


def limits(field: FieldInfo) -> tuple[Any, Any]:
    """Return the least and the most that ``field`` (a number, a duration, or a list's length) may be."""
    bounds: dict[str, Any] = {}
    for item in field.metadata:
        for name in ("ge", "le", "min_length", "max_length"):
            if hasattr(item, name):
                bounds[name[:3]] = getattr(item, name)
    return bounds.get("ge", bounds.get("min")), bounds.get("le", bounds.get("max"))


def is_duration(field: FieldInfo) -> bool:
    """Return whether the value is written with a unit."""
    return "parse_duration" in f"{field.metadata}{field.annotation}"


def all_sections() -> Iterator[type[BaseModel]]:
    """Yield every model that the configuration is made of."""
    for _, model in _sections():
        yield model


def _range(field: FieldInfo | None) -> str:
    if field is None:
        return "something else"
    low, high = limits(field)
    written = format_duration if is_duration(field) else _plain_number
    return f"{written(low)} to {written(high)}"


def _plain_number(number: Any) -> str:
    return f"{number:g}" if isinstance(number, float) else str(number)


def _choices(field: FieldInfo | None) -> list[str]:
    if field is None:
        return []
    annotations = [field.annotation, *get_args(field.annotation)]
    return [choice for part in annotations if get_origin(part) is Literal for choice in get_args(part)]


def _field_at(path: KeyPath) -> FieldInfo | None:
    names = [part for part in path if isinstance(part, str)]
    model: type[BaseModel] | None = Config
    field: FieldInfo | None = None
    for name in names:
        field = model.model_fields.get(name) if model else None
        model = _model_of(field.annotation) if field else None
    return field


def _model_at(path: KeyPath) -> type[BaseModel] | None:
    if not any(isinstance(part, str) for part in path):
        return Config
    field = _field_at(path)
    return _model_of(field.annotation) if field else None


def _model_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (list, Union, types.UnionType):
        return next((model for part in get_args(annotation) if (model := _model_of(part))), None)
    return None
