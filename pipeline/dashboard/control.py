"""What can be done to the streams of a running pipeline: checked, done, logged, and kept where that is asked for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from pipeline.config.edit import ConfigFile
from pipeline.config.load import stream_from_mapping
from pipeline.config.problem import InvalidConfig
from pipeline.config.sections import Config, StreamSection
from pipeline.dashboard.answers import Refused
from pipeline.dashboard.facts import Problem, RemovedStream
from pipeline.dashboard.watched import SteeredStreams
from pipeline.errors import ConfigError, StreamError, UrlError
from pipeline.source.redact import redact

CHANGEABLE = ("max_fps", "deadline", "weight", "min_fps", "score_threshold")
"""Keys of a stream that may change while it plays; for the others it is removed and added anew."""

Action = Literal["pause", "resume", "restart"]
DONE: dict[Action, str] = {"pause": "paused", "resume": "resumed", "restart": "restarted"}

_REMOVAL_SECONDS = 10.0
"""A source may take its read timeout to let go."""

_log = logging.getLogger("onpace.control")


class Control:
    """Steers one pipeline. Thread-safe. Raises Refused for what cannot be done; ``who`` is the asker's address."""

    def __init__(
        self, streams: SteeredStreams, config: Config, config_file: Path | None, note: Callable[[str, str], None]
    ) -> None:
        """``config_file``: where ``dashboard.save`` keeps changes. ``note`` is told of every change to a stream."""
        self._streams = streams
        self._config = config
        self._folder = config_file.absolute().parent if config_file is not None else None
        self._file = ConfigFile(config_file) if config_file is not None and config.dashboard.save else None
        self._note = note
        self._saving = threading.Lock()

    def add(self, data: Mapping[str, Any], who: str) -> str:
        """Take in a stream, its keys as in a configuration's ``streams``; return its id."""
        section = self._checked(data)
        with _refusing():
            self._streams.add(section)
        self._tell(who, section.id, f"added, {redact(section.url)}")
        self._save(lambda file: file.add(data))
        return section.id

    def change(self, stream_id: str, changes: Mapping[str, Any], who: str) -> None:
        """Set some of the ``CHANGEABLE`` keys; null takes the general setting."""
        fixed = [key for key in changes if key in StreamSection.model_fields and key not in CHANGEABLE]
        if fixed:
            allowed = ", ".join(CHANGEABLE)
            remedy = f"cannot be changed while the stream plays; allowed: {allowed}. Remove the stream and add it anew."
            raise _invalid([Problem(key, remedy) for key in fixed])
        with _refusing():
            section = self._streams.section(stream_id)
        checked = self._checked({"id": stream_id, "url": "pattern:", **changes})
        with _refusing():
            self._streams.change(stream_id, section.model_copy(update={key: getattr(checked, key) for key in changes}))
        shown = ", ".join(f"{key} {value}" for key, value in changes.items())
        self._tell(who, stream_id, f"changed: {shown}" if shown else "changed: nothing")
        self._save(lambda file: file.change(stream_id, changes))

    def act(self, stream_id: str, action: Action, who: str) -> None:
        """Pause, resume or restart a stream."""
        with _refusing():
            getattr(self._streams, action)(stream_id)
        self._tell(who, stream_id, DONE[action])

    def remove(self, stream_id: str, who: str) -> RemovedStream:
        """Take a stream out, and wait a while for its last frame to leave."""
        with _refusing():
            gone, counts = self._streams.remove(stream_id, _REMOVAL_SECONDS)
        self._tell(who, stream_id, "removed")
        self._save(lambda file: file.remove(stream_id))
        return RemovedStream(
            id=stream_id,
            gone=gone,
            received=counts.received,
            published=counts.published,
            in_flight=counts.in_flight_total,
            dropped=counts.dropped,
        )

    def _checked(self, data: Mapping[str, Any]) -> StreamSection:
        try:
            return stream_from_mapping(data, self._config, folder=self._folder)
        except InvalidConfig as error:
            raise _invalid([Problem(one.path, one.message) for one in error.problems]) from None

    def _tell(self, who: str, stream_id: str, what: str) -> None:
        _log.info("%s: stream %s %s", who, stream_id, what)
        self._note(stream_id, what)

    def _save(self, edit: Callable[[ConfigFile], None]) -> None:
        if self._file is None:
            return
        try:
            with self._saving:
                edit(self._file)
        except (ConfigError, OSError) as error:
            _log.error("not saved: %s", error)
            message = f"it was done, and lasts until this run ends, but was not saved: {error}"
            raise Refused(500, "not_saved", message) from None


class _refusing:
    """Turns what the streams refuse into an answer."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, StreamError):
            raise Refused(409 if error.known else 404, "conflict" if error.known else "not_found", str(error)) from None
        if isinstance(error, UrlError):
            raise _invalid([Problem("url", str(error))]) from None


def _invalid(problems: list[Problem]) -> Refused:
    text = "\n".join(f"{one.path}: {one.message}" if one.path else one.message for one in problems)
    return Refused(422, "invalid", text, problems)
