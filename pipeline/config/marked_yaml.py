"""Reads YAML into plain data, and remembers the line and the writing of every value.

Scalars are read as YAML 1.2 reads them: ``on``, ``off``, ``yes``, ``no`` and dates are text, ``1e3`` is a number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pipeline.config.interpolation import expand
from pipeline.config.problem import KeyPath, Problem, path_text
from pipeline.source.redact import redact

_TAG = "tag:yaml.org,2002:"
_MOST_NODES = 100_000
"""Aliases of aliases can make a small file endless; 1024 streams with every key need a fifth of this."""
_SECRET_KEY = re.compile(r"passw|passphrase|secret|token", re.IGNORECASE)


@dataclass(slots=True)
class Document:
    """A configuration as plain data, with what is needed to explain problems in it."""

    file: str
    folder: Path
    data: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    templates: dict[KeyPath, str] = field(default_factory=dict)
    """Values that came from the environment or a file, as written."""
    unusable: set[KeyPath] = field(default_factory=set)
    """Where a problem is known already; what else is wrong there follows from it."""
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def problem(self, path: KeyPath, message: str, value: str | None = None, *, line: int | None = None) -> None:
        """Add a problem, unless one is known there."""
        if path in self.unusable:
            return
        self.unusable.add(path)
        self.problems.append(Problem(self.file, line or self.line(path), path_text(path), value, message))

    def warn(self, path: KeyPath, message: str) -> None:
        """Add a warning."""
        self.warnings.append(Problem(self.file, self.line(path), path_text(path), self.shown(path), message))

    def line(self, path: KeyPath) -> int | None:
        """Return the line of ``path``, or of what encloses it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)

    def get(self, path: KeyPath) -> Any:
        """Return the value at ``path``; None where there is none."""
        value = self.data
        for part in path:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def shown(self, path: KeyPath) -> str:
        """Return the value at ``path`` for people: never a secret."""
        if any(isinstance(part, str) and _SECRET_KEY.search(part) for part in path):
            return "(hidden)"
        if path in self.templates:
            return redact(self.templates[path])
        value = self.get(path)
        if isinstance(value, Mapping):
            return "a mapping"
        if isinstance(value, (list, tuple)):
            return "a list"
        if isinstance(value, str):
            shown = redact(value)
            return repr(shown if len(shown) <= 80 else shown[:80] + "…")
        return json.dumps(value) if isinstance(value, (bool, int, float, type(None))) else f"a {type(value).__name__}"


class _Loader(yaml.SafeLoader):
    """Composes nodes only. Its resolvers are those of YAML 1.2, plus ``<<``."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - the base class declares it, and copies it before changing it


for _kind, _pattern in (
    ("null", r"~|null|Null|NULL|"),
    ("bool", r"true|True|TRUE|false|False|FALSE"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"),
    ("merge", r"<<"),
):
    _Loader.add_implicit_resolver(_TAG + _kind, re.compile(rf"(?:{_pattern})\Z"), None)


def read_yaml(text: str, document: Document, env: Mapping[str, str]) -> None:
    """Fill ``document`` from ``text``; what is wrong becomes its problems. Values hold no references any more."""
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        document.problem((), _syntax(error), line=mark.line + 1 if mark else None)
        return
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        document.problem((), "not valid YAML: a control character. Remove it.", line=line)
        return
    except RecursionError:
        document.problem((), "nested too deeply to be a configuration.")
        return
    if root is None:
        document.data = {}
        return
    document.lines[()] = root.start_mark.line + 1
    document.data = _Builder(document, env).build(root, ())


def _syntax(error: yaml.MarkedYAMLError) -> str:
    # PyYAML quotes names of aliases, anchors and tags: an unquoted password that begins with '*', '&' or '!' is one.
    reason = re.sub(r"(['\"]).{2,}\1", "…", error.problem or error.context or "it cannot be parsed", flags=re.DOTALL)
    return (
        f"not valid YAML: {reason}. Check indentation and ':' here and in the line above; "
        "text that begins with one of @ * & ! % { [ ` needs quotes."
    )


class _Builder:
    """Turns nodes into data."""

    def __init__(self, document: Document, env: Mapping[str, str]) -> None:
        self._document = document
        self._env = env
        self._nodes = 0
        self._open: set[int] = set()

    def build(self, node: yaml.Node, path: KeyPath) -> Any:
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            self._document.problem((), f"holds more than {_MOST_NODES} values, aliases counted each time.")
            return None
        with self._inside(node, path) as new:
            if not new:
                return None
            if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
                return self._sequence(node, path)
            if isinstance(node, yaml.ScalarNode):
                return self._scalar(node, path)
        self._document.problem(path, "YAML tags ('!…') are not supported. Quote text that begins with '!'.")
        return None

    @contextmanager
    def _inside(self, node: yaml.Node, path: KeyPath) -> Iterator[bool]:
        if id(node) in self._open:
            self._document.problem(path, "an alias refers to what holds it.")
            yield False
            return
        self._open.add(id(node))
        yield True
        self._open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        merged: list[yaml.Node] = []
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _TAG + "merge":
                sources = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                merged += sources
                continue
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == _TAG + "null":
                self._document.problem((*path, f"line {line}"), "a key must be plain text.", line=line)
                continue
            key = key_node.value
            if key in mapping:
                first = self._document.lines[(*path, key)]
                self._document.unusable.discard((*path, key))
                self._document.problem(
                    (*path, key), f"written twice, first on line {first}. Remove one of them.", line=line
                )
                continue
            self._document.lines[(*path, key)] = line
            mapping[key] = self.build(value_node, (*path, key))
        for source in merged:
            self._merge(source, mapping, path)
        return mapping

    def _merge(self, source: yaml.Node, mapping: dict[str, Any], path: KeyPath) -> None:
        if not isinstance(source, yaml.MappingNode):
            self._document.problem((*path, "<<"), "only a mapping can be merged.", line=source.start_mark.line + 1)
            return
        with self._inside(source, path) as new:
            if not new:
                return
            for key_node, value_node in source.value:
                if isinstance(key_node, yaml.ScalarNode) and key_node.value not in mapping:
                    self._document.lines[(*path, key_node.value)] = key_node.start_mark.line + 1
                    mapping[key_node.value] = self.build(value_node, (*path, key_node.value))

    def _sequence(self, node: yaml.SequenceNode, path: KeyPath) -> list[Any]:
        items = []
        for index, item in enumerate(node.value):
            self._document.lines[(*path, index)] = item.start_mark.line + 1
            items.append(self.build(item, (*path, index)))
        return items

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        if node.tag == _TAG + "str" or node.tag == _TAG + "merge":
            return self._text(node.value, path)
        try:
            return _typed(node.tag.removeprefix(_TAG), node.value)
        except (KeyError, ValueError):
            self._document.problem(path, "cannot be read. Quote it if it is text; YAML tags ('!…') are not supported.")
            return None

    def _text(self, text: str, path: KeyPath) -> str:
        expansion = expand(text, self._env, self._document.folder)
        if expansion.filled:
            self._document.templates[path] = expansion.template
        for message in expansion.problems:
            self._document.unusable.discard(path)
            self._document.problem(path, message, self._document.shown(path))
        return expansion.value


def _typed(kind: str, text: str) -> Any:
    if kind == "null":
        return None
    if kind == "bool":
        return {"true": True, "false": False}[text.lower()]
    if kind == "int":
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if kind == "float":
        return float(text.replace(".inf", "inf").replace(".nan", "nan")) if "." in text[:2] else float(text)
    raise KeyError(kind)
