"""Changes one stream in a configuration file; every other line, with its comments, stays as it is.

The file is read anew for each change, so that what somebody wrote meanwhile is kept, and replaced in one step.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pipeline.config.load import load
from pipeline.errors import ConfigError


class ConfigFile:
    """A configuration file whose list of streams is edited. Not thread-safe.

    Every method raises ConfigError where the file cannot be edited so, and leaves it as it was.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, stream: Mapping[str, Any]) -> None:
        """Append a stream, its keys as a configuration writes them."""
        text, streams = self._read()
        if streams.flow_style or not streams.value:
            raise self._error("its streams are not a list with a line for each. Write them so")
        last = streams.value[-1]
        indent = " " * (last.start_mark.column - 2)
        lines = _block(stream).splitlines()
        added = "".join(f"{indent}{'- ' if not number else '  '}{line}\n" for number, line in enumerate(lines))
        end = _end_of_lines(text, last)
        newline = "" if text[:end].endswith("\n") else "\n"
        self._replace(text[:end] + newline + added + text[end:])

    def change(self, stream_id: str, changes: Mapping[str, Any]) -> None:
        """Set some keys of a stream."""
        for key, value in changes.items():
            text, streams = self._read()
            self._replace(_with_key(text, self._find(streams, stream_id), key, value))

    def remove(self, stream_id: str) -> None:
        """Take a stream out."""
        text, streams = self._read()
        stream = self._find(streams, stream_id)
        if streams.flow_style or len(streams.value) < 2:
            raise self._error(f"without '{stream_id}' none would be left in it, or its streams are in one line")
        start = text.rindex("\n", 0, stream.start_mark.index) + 1
        self._replace(text[:start] + text[_end_of_lines(text, stream) :])

    def _read(self) -> tuple[str, yaml.SequenceNode]:
        try:
            text = self.path.read_text()
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            why = getattr(error, "strerror", None) or type(error).__name__
            raise self._error(f"it cannot be read: {why}") from None
        entries = root.value if isinstance(root, yaml.MappingNode) else []
        for key, value in entries:
            if key.value == "streams" and isinstance(value, yaml.SequenceNode):
                return text, value
        raise self._error("it has no list of streams")

    def _find(self, streams: yaml.SequenceNode, stream_id: str) -> yaml.MappingNode:
        for stream in streams.value:
            if isinstance(stream, yaml.MappingNode) and ("id", stream_id) in [
                (key.value, value.value) for key, value in stream.value
            ]:
                return stream
        raise self._error(f"stream '{stream_id}' is not in it as such")

    def _replace(self, text: str) -> None:
        """Put ``text`` in the file's place once it has proved to be a usable configuration."""
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.", suffix=".yaml")
        draft = Path(name)
        try:
            with os.fdopen(handle, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            load(draft)
            draft.chmod(stat.S_IMODE(self.path.stat().st_mode))
            draft.replace(self.path)
        except ConfigError as error:
            raise self._error(f"the result would be no usable configuration ({error})") from None
        finally:
            draft.unlink(missing_ok=True)

    def _error(self, why: str) -> ConfigError:
        return ConfigError(f"{self.path}: {why}; it was left as it is.")


def _block(mapping: Mapping[str, Any]) -> str:
    return yaml.safe_dump(
        {key: _plain(value) for key, value in mapping.items()}, sort_keys=False, allow_unicode=True, width=1000
    )


def _plain(value: Any) -> Any:
    """Return a value so that a configuration takes it as it is: a '$' in it refers to nothing."""
    return value.replace("$", "$$") if isinstance(value, str) else value


def _end_of_lines(text: str, node: yaml.Node) -> int:
    """Return where the line after ``node``'s last one begins: comments below it belong to what follows."""
    last = _last_scalar(node)
    end = text.find("\n", max(last.end_mark.index - 1, 0))
    return len(text) if end < 0 else end + 1


def _last_scalar(node: yaml.Node) -> yaml.Node:
    """Return the last value in ``node``: a block's own end mark lies at the beginning of what follows."""
    if isinstance(node, yaml.MappingNode) and node.value and not node.flow_style:
        return _last_scalar(node.value[-1][1])
    if isinstance(node, yaml.SequenceNode) and node.value and not node.flow_style:
        return _last_scalar(node.value[-1])
    return node


def _with_key(text: str, stream: yaml.MappingNode, key: str, value: Any) -> str:
    written = (
        yaml.safe_dump(_plain(value), default_flow_style=True, width=1000).removesuffix("\n").removesuffix("\n...")
    )
    for known, old in stream.value:
        if known.value == key:
            return text[: old.start_mark.index] + written + text[old.end_mark.index :]
    if stream.flow_style:
        brace = stream.end_mark.index - 1
        return f"{text[:brace].rstrip()}, {key}: {written}{text[brace:]}"
    end = _end_of_lines(text, stream)
    newline = "" if text[:end].endswith("\n") else "\n"
    return f"{text[:end]}{newline}{' ' * stream.start_mark.column}{key}: {written}\n{text[end:]}"
