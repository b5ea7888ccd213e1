"""What is wrong with a configuration: one line a problem, all of them in one error."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.errors import ConfigError
from pipeline.source.redact import redact

KeyPath = tuple[str | int, ...]
"""("streams", 2, "url") for ``streams[2].url``; () for the whole file."""

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, or worth a warning. Every field is safe to print."""

    file: str
    line: int | None
    """Counted from 1; None where the configuration was no file."""
    path: str
    """``streams[2].url``; empty where it concerns the whole file."""
    value: str | None
    """The value as written, secrets hidden; None where there is none to show."""
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.path}: {self.message}" if self.path else f"{place}: {self.message}"


class InvalidConfig(ConfigError):
    """A configuration that cannot be used; ``problems`` holds what the message lists, a line each."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))

    def __reduce__(self) -> tuple[type[InvalidConfig], tuple[tuple[Problem, ...]]]:
        return InvalidConfig, (self.problems,)


def path_text(path: KeyPath) -> str:
    """Return ``streams[2].url`` for ("streams", 2, "url")."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + key_text(part)
    return text


def key_text(key: str) -> str:
    """Return a key for people. One that holds odd characters may be an address with a password in the wrong place."""
    return key if _PLAIN_KEY.match(key) else json.dumps(redact(key)[:80])
