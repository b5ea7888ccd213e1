"""What a key may hold: durations, switches, numbers, addresses; and what every section of the file is."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator
from pydantic_core import PydanticCustomError

_DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(us|ms|s|m|h)\s*$")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(value: Any) -> float:
    """Return the seconds of "250ms", "5s", "2m" or "1h". Raises ValueError for a number without a unit."""
    match = _DURATION.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('a duration needs a unit: us, ms, s, m or h, as in "5s" or "250ms"')
    return float(match[1]) * _SECONDS[match[2]]


def format_duration(seconds: float) -> str:
    """Return ``seconds`` as a configuration writes it: in the largest unit that needs no fraction."""
    for unit, unit_seconds in reversed(_SECONDS.items()):
        number = round(seconds / unit_seconds, 6)
        if number >= 1 and number == int(number):
            return f"{int(number)}{unit}"
    if not seconds:
        return "0s"
    return f"{seconds:.12f}".rstrip("0").rstrip(".") + "s"


def _refuse_truth(value: Any) -> Any:
    """Python counts True as 1; nobody who writes ``threads: true`` means one thread."""
    if isinstance(value, bool):
        raise PydanticCustomError("number_expected", "a number is expected")
    return value


def parse_switch(value: Any) -> bool:
    """Return whether ``value`` says yes. Takes the words of YAML 1.1; refuses 0 and 1, which may be something else."""
    words = {"yes": True, "on": True, "true": True, "no": False, "off": False, "false": False}
    if isinstance(value, str):
        value = words.get(value.strip().lower(), value)
    if not isinstance(value, bool):
        raise PydanticCustomError("switch_expected", "true or false is expected")
    return value


def _class_name_or_index(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise PydanticCustomError("class_expected", 'a class name or index is expected, as in "person" or 0')
    return value


def _file_or_size(value: Any) -> Any:
    sides = value if isinstance(value, list | tuple) else [value]
    whole = all(isinstance(side, int) and not isinstance(side, bool) and 32 <= side <= 16384 for side in sides)
    if (isinstance(value, str) and value) or (whole and (isinstance(value, int) or len(sides) == 2)):
        return value
    raise PydanticCustomError("input_expected", "an ONNX file or an input size, 32 to 16384, is expected")


Duration = Annotated[
    float,
    BeforeValidator(parse_duration, json_schema_input_type=Annotated[str, Field(pattern=_DURATION.pattern)]),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
]
"""Seconds, written with their unit: "5s", "250ms"."""

_SHORTEST_DEADLINE, _LONGEST_DEADLINE = 0.01, 3600.0


def parse_deadline(value: Any) -> float | str:
    """Return "auto" or the seconds of a duration of 10ms to 1h. Raises ValueError for anything else."""
    if value == "auto":
        return "auto"
    match = _DURATION.match(value) if isinstance(value, str) else None
    seconds = parse_duration(value) if match else 0.0
    if not _SHORTEST_DEADLINE <= seconds <= _LONGEST_DEADLINE:
        raise ValueError('auto is expected, or a duration of 10ms to 1h with its unit, as in "200ms"')
    return seconds


def format_deadline(deadline: float | str) -> str:
    """Return a deadline as a configuration writes it."""
    return deadline if isinstance(deadline, str) else format_duration(deadline)


DeadlineSetting = Annotated[
    float | Literal["auto"],
    BeforeValidator(
        parse_deadline, json_schema_input_type=Annotated[str, Field(pattern=rf"^auto$|{_DURATION.pattern}")]
    ),
    PlainSerializer(format_deadline, return_type=str, when_used="json"),
]
"""Seconds, written with their unit, or "auto"."""

_LISTEN = re.compile(r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):(\d{1,5})$")


def parse_listen(value: Any) -> str:
    """Return ``value`` if it is HOST:PORT with a port of 0 (any free one) to 65535. Raises ValueError."""
    match = _LISTEN.match(value) if isinstance(value, str) else None
    if match is None or int(match[2]) > 65535:
        raise ValueError('HOST:PORT is expected, with a port of 0 (any free one) to 65535, as in "127.0.0.1:9464"')
    return match[0]


Listen = Annotated[
    str, BeforeValidator(parse_listen, json_schema_input_type=Annotated[str, Field(pattern=_LISTEN.pattern)])
]
"""Where a server of ours listens: "127.0.0.1:9464", "[::1]:9464"."""


def parse_dashboard_listen(value: Any) -> str:
    """Return ``value`` if it is "auto" or HOST:PORT. Raises ValueError."""
    return "auto" if value == "auto" else parse_listen(value)


DashboardListen = Annotated[
    str,
    BeforeValidator(
        parse_dashboard_listen, json_schema_input_type=Annotated[str, Field(pattern=rf"^auto$|{_LISTEN.pattern}")]
    ),
]
"""Where the dashboard listens: HOST:PORT, or "auto"."""

_MOST_WORKERS = 64


def parse_worker_count(value: Any) -> Any:
    """Return ``value`` if it is "auto" or a number of processes. Raises ValueError."""
    if value == "auto":
        return value
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST_WORKERS:
        raise ValueError(f'"auto" or a whole number from 1 to {_MOST_WORKERS} is expected')
    return value


WorkerCount = Annotated[
    int | Literal["auto"],
    BeforeValidator(
        parse_worker_count,
        json_schema_input_type=Annotated[int, Field(ge=1, le=_MOST_WORKERS)] | Literal["auto"],
    ),
]
"""How many processes: 1 to 64, or "auto"."""

Whole = Annotated[int, BeforeValidator(_refuse_truth, json_schema_input_type=int)]
Number = Annotated[float, BeforeValidator(_refuse_truth, json_schema_input_type=float)]
Switch = Annotated[bool, BeforeValidator(parse_switch, json_schema_input_type=bool)]
ClassRef = Annotated[str | int, BeforeValidator(_class_name_or_index, json_schema_input_type=str | int)]
SmallerInput = Annotated[
    str | int | tuple[int, int], BeforeValidator(_file_or_size, json_schema_input_type=str | int | tuple[int, int])
]
"""A smaller input of the model: an ONNX file, a side in pixels, or width and height."""
StreamId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Policy = Literal["auto", "block", "drop_oldest"]
Transport = Literal["tcp", "udp"]
TrackerName = Literal["off", "bytetrack", "ocsort"]


class Section(BaseModel):
    """A mapping of the file: unknown keys are errors."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_means_defaults(cls, data: Any) -> Any:
        """``decode:`` with every key below it commented out is null in YAML."""
        return {} if data is None else data
