"""Fills in ``${NAME}``, ``${NAME:-default}`` and ``${file:PATH}``, and remembers what must never be shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_REFERENCE = re.compile(r"\$\$|\$\{([^{}]*)\}|\$\{")
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?\Z", re.DOTALL)
_LARGEST_SECRET_BYTES = 64 * 1024


@dataclass(slots=True)
class Expansion:
    """A text with its references filled in."""

    value: str = ""
    template: str = ""
    """The text as written, but without defaults, which may be secrets too."""
    filled: bool = False
    """Whether anything came from outside: then ``value`` is never shown."""
    problems: list[str] = field(default_factory=list)


def expand(text: str, env: Mapping[str, str], folder: Path) -> Expansion:
    """Fill in the references of ``text``; ``$$`` is a single ``$``. Secret files are relative to ``folder``."""
    expansion = Expansion()
    end = 0
    for match in _REFERENCE.finditer(text):
        literal = text[end : match.start()]
        end = match.end()
        value, template = ("$", "$$") if match[0] == "$$" else _look_up(match[1], env, folder, expansion)
        expansion.value += literal + value
        expansion.template += literal + template
    expansion.value += text[end:]
    expansion.template += text[end:]
    return expansion


def _look_up(reference: str | None, env: Mapping[str, str], folder: Path, expansion: Expansion) -> tuple[str, str]:
    """Return the value of what stands between the braces, and how to show it."""
    expansion.filled = True
    if reference is not None and reference.startswith("file:"):
        shown = f"${{{reference}}}"
        try:
            return _read_secret(folder / reference[len("file:") :]), shown
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            expansion.problems.append(f"{shown} cannot be read: {reason}. Name a readable text file of one secret.")
            return "", shown
    match = _VARIABLE.match(reference or "")
    if match is None:
        # What stands there is not named: it may be part of a password that holds "${" by chance.
        expansion.problems.append(
            "'${' begins a reference: write ${NAME}, ${NAME:-default} or ${file:PATH}, and '$$' for a plain '$'."
        )
        return "", "${...}"
    name, default = match.groups()
    value = env.get(name, "")
    if not value and default is not None:
        return default, f"${{{name}}}"
    if name not in env:
        expansion.problems.append(
            f"the environment variable {name} is not set. Set it, or write a default: ${{{name}:-default}}."
        )
    return value, f"${{{name}}}"


def _read_secret(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(_LARGEST_SECRET_BYTES + 1)
    if len(content) > _LARGEST_SECRET_BYTES:
        raise ValueError(f"it holds more than {_LARGEST_SECRET_BYTES // 1024} KiB")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    # Editors and `echo` end a file with a line break that belongs to no password.
    return text.removesuffix("\n").removesuffix("\r")
