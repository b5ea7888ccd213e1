"""Writes who did what when to a file in Chrome's trace event format, which Perfetto and chrome://tracing open.

The threads that work only append to a list; a thread of the timeline's own turns what is there into text, ten times a
second. The file is an array of events, written as they come, so that a file that was cut short opens, too. Workers
append whole lines to their parent's file; the monotonic clock is the same in all processes of a machine. Format:
https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

from pipeline.clock import monotonic
from pipeline.errors import ConfigError
from pipeline.frame import Frame

Flow = Literal["", "s", "t", "f"]
"""How a span stands on the way of its frames: not at all, at its start, on it, at its end."""

_WRITE_EVERY_SECONDS = 0.1
_MOST_WAITING = 200_000
"""Spans that wait to be written; more are counted as lost."""
_MOST_BYTES = 256 << 20
"""Larger files take a browser minutes."""
_NAMED_FRAMES = 64
_HIGHEST_PROCESS_BIT = 22
"""Linux numbers processes below 2 ** 22. What stands together is a process to whoever opens the file."""

_log = logging.getLogger("onpace.timeline")


@dataclass(frozen=True, slots=True)
class Begun:
    """Where and when a timeline began; the process that began it ends it."""

    file: Path
    at: float
    """Monotonic seconds when it began."""
    seconds: float
    """How much of the run it holds."""


class Timeline:
    """Collects spans on tracks, and writes them. Thread-safe; closing twice is safe.

    It ends by itself after ``seconds``, or when the file has 256 MiB; a file that cannot be written any more ends it,
    too, and never the run.
    """

    def __init__(self, begun: Begun, joined_by: str = "") -> None:
        """Begin what ``begun`` says; ``joined_by``: another process did, and this one, of that name, adds to it.

        Raises OSError where the file cannot be written.
        """
        self._begun = begun
        self._name = joined_by or "onpace"
        self._is_whole = not joined_by
        self._is_shared = False
        self._file: BinaryIO = begun.file.open("ab", buffering=0)
        self._lost = 0
        self._process = os.getpid()
        self._numbers = itertools.count(1)
        self._tracks: dict[tuple[str, str], Track] = {}
        self._groups: dict[str, int] = {}
        self._waiting: deque[str | _Span] = deque()
        self._look: Callable[[], Mapping[str, Mapping[str, float]]] = dict
        self._lock = threading.Lock()
        self._done = threading.Event()
        if self._is_whole:
            with suppress(OSError):  # of a disk that is full the next lines tell
                self._append("[\n")
        self._thread = threading.Thread(target=self._write, name="timeline", daemon=True)
        self._thread.start()

    def share(self) -> Begun:
        """Let other processes join; this one ends the file when it is closed, after they have ended."""
        self._is_shared = True
        return self._begun

    def track(self, name: str, group: str = "") -> Track:
        """Return the track of that name, a new one where there is none. Tracks of a group stand together."""
        if not group:
            group = self._name
        elif not self._is_whole:
            group = f"{group}, {self._name}"
        with self._lock:
            known = self._tracks.get((group, name))
            if known is not None:
                return known
            number = next(self._numbers)
            if group not in self._groups:
                self._groups[group] = self._process + (len(self._groups) << _HIGHEST_PROCESS_BIT)
                self._meta("process_name", self._groups[group], 0, {"name": group})
            process = self._groups[group]
            self._meta("thread_name", process, number, {"name": name})
            self._meta("thread_sort_index", process, number, {"sort_index": number})
            made = self._tracks[group, name] = Track(self, process, number)
            return made

    def watch(self, look: Callable[[], Mapping[str, Mapping[str, float]]]) -> None:
        """Ask ``look`` for counters, name -> {series: value}, ten times a second."""
        self._look = look

    def close(self) -> None:
        """Write what is left, and end the file."""
        self._done.set()
        self._thread.join(10.0)

    def add(self, span: _Span) -> None:
        """Take in one span; see ``Track.span``."""
        if self._done.is_set():
            return
        if len(self._waiting) >= _MOST_WAITING:
            self._lost += 1
        else:
            self._waiting.append(span)

    def _write(self) -> None:
        path, seconds = self._begun.file, self._begun.seconds
        try:
            while not self._done.wait(_WRITE_EVERY_SECONDS):
                self._count()
                self._flush()
                if self._is_shared:
                    continue  # others go on
                if monotonic() >= self._begun.at + seconds:
                    _log.info("%s holds %.0f s, and ends here", path, seconds)
                    break
                if (size := os.fstat(self._file.fileno()).st_size) >= _MOST_BYTES:
                    _log.warning("%s has grown to %d MiB, and ends here", path, size >> 20)
                    break
            self._done.set()
            self._flush()
            self._end()
        except OSError as error:
            self._done.set()
            self._waiting.clear()
            _log.warning("--trace %s: cannot be written any more (%s): the run goes on without it", path, error)

    def _flush(self) -> None:
        lines: list[str] = []
        for _ in range(len(self._waiting)):
            one = self._waiting.popleft()
            lines.extend([one] if isinstance(one, str) else self._lines(one))
        self._append("".join(lines))

    def _append(self, text: str) -> None:
        """Write whole lines at the end of the file, in one call: other processes may do the same."""
        left = memoryview(text.encode())
        while left:
            left = left[self._file.write(left) or 0 :]

    def _end(self) -> None:
        if self._lost:
            _log.warning("%s lacks %d spans: they came faster than they could be written", self._begun.file, self._lost)
        labels = json.dumps(_meta("process_labels", self._process, 0, {"labels": f"{self._lost} spans lost"}))
        self._append(f"{labels}\n]\n" if self._is_whole else f"{labels},\n")
        self._file.close()

    def _count(self) -> None:
        at = self._microseconds(monotonic())
        for name, series in self._look().items():
            event = {"ph": "C", "name": name, "pid": self._process, "tid": 0, "ts": at, "args": series}
            self._waiting.append(_line(event))

    def _lines(self, span: _Span) -> Iterable[str]:
        start, length = self._microseconds(span.begun), round(max(0.0, span.ended - span.begun) * 1e6, 3)
        where = {"pid": span.track.process, "tid": span.track.number}
        event: dict[str, object] = {"ph": "X", "name": span.name, "cat": "onpace", **where, "ts": start, "dur": length}
        if span.frames:
            event["args"] = {"frames": span.frames[:_NAMED_FRAMES]}
        yield _line(event)
        if span.flow:
            arrow = {"ph": span.flow, "name": "frame", "cat": "frame", **where, "ts": round(start + length / 2, 3)}
            if span.flow == "f":
                arrow["bp"] = "e"  # it ends in the span around it, not in the next one
            for one in span.frames:
                yield _line({**arrow, "id": one})

    def _microseconds(self, at: float) -> float:
        return round((at - self._begun.at) * 1e6, 3)

    def _meta(self, name: str, process: int, thread: int, facts: Mapping[str, object]) -> None:
        self._waiting.append(_line(_meta(name, process, thread, facts)))


def begin_timeline(file: Path, seconds: float = 60.0) -> Timeline:
    """Begin a file. Raises ConfigError where it cannot be written."""
    try:
        file.open("w").close()
        return Timeline(Begun(file, monotonic(), seconds))
    except OSError as error:
        raise ConfigError(f"--trace {file}: cannot be written: {error.strerror}. Name another file.") from error


def join_timeline(begun: Begun | None, name: str) -> Timeline | None:
    """Return a timeline that adds to another process's file what this one, called ``name``, does.

    None where there is none or its time is over, and where the file cannot be written: a worker goes on without it.
    """
    if begun is None or monotonic() >= begun.at + begun.seconds:
        return None
    try:
        return Timeline(begun, joined_by=name)
    except OSError as error:
        _log.warning("--trace %s: %s cannot write to it (%s): it goes on without", begun.file, name, error.strerror)
        return None


class Track:
    """One line of the timeline: a thread's, a stage's or a GPU's. Its spans follow or hold each other."""

    __slots__ = ("number", "process", "timeline")

    def __init__(self, timeline: Timeline, process: int, number: int) -> None:
        self.timeline = timeline
        self.process = process
        self.number = number

    def span(self, name: str, begun: float, ended: float, frames: Iterable[Frame] = (), flow: Flow = "") -> None:
        """Note what happened from ``begun`` to ``ended``, monotonic seconds, to ``frames``, which are not kept."""
        ids = [f"{frame.stream_id}/{frame.index}" for frame in frames]
        self.timeline.add(_Span(self, name, begun, ended, ids, flow))


class _Span(NamedTuple):
    track: Track
    name: str
    begun: float
    ended: float
    frames: list[str]
    flow: Flow


def _line(event: Mapping[str, object]) -> str:
    return f"{json.dumps(event)},\n"


def _meta(name: str, process: int, thread: int, facts: Mapping[str, object]) -> dict[str, object]:
    return {"ph": "M", "name": name, "pid": process, "tid": thread, "ts": 0, "args": dict(facts)}
