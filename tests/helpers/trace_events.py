"""Reads a timeline in Chrome's trace event format as Perfetto does, and refuses what does not keep to the format."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_NEEDED = {"X": {"ts", "dur", "name", "cat"}, "C": {"ts", "name", "args"}, "M": {"name", "args"}}
_FLOW = {"ts", "name", "cat", "id"}
_METADATA = {"process_name", "thread_name", "thread_sort_index", "process_labels"}


@dataclass(frozen=True)
class Span:
    """One span, in microseconds from the trace's start."""

    name: str
    begin: float
    end: float
    frames: tuple[str, ...]


@dataclass
class TraceFile:
    """What a file holds: spans by (group, track), flows and counters."""

    tracks: dict[tuple[str, str], list[Span]] = field(default_factory=lambda: defaultdict(list))
    flows: dict[str, list[tuple[str, tuple[str, str], float]]] = field(default_factory=lambda: defaultdict(list))
    """Frame -> (phase, track, time) in the order of time."""
    counters: dict[str, list[dict[str, float]]] = field(default_factory=lambda: defaultdict(list))

    def track(self, name: str) -> list[Span]:
        """Return the spans of the process's track of that name; a GPU may have one of the same name."""
        (found,) = [spans for (group, track), spans in self.tracks.items() if track == name and group == "onpace"]
        return found


def read_trace(path: Path) -> TraceFile:
    """Return what is in the file. Raises AssertionError where it is not as the format wants it."""
    events: list[dict[str, Any]] = json.loads(path.read_text())
    assert isinstance(events, list)
    groups = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
    names = {
        (event["pid"], event["tid"]): (groups[event["pid"]], event["args"]["name"])
        for event in events
        if event["name"] == "thread_name"
    }
    trace = TraceFile()
    for event in events:
        phase = event["ph"]
        assert isinstance(event["pid"], int) and isinstance(event["tid"], int), event
        assert _NEEDED.get(phase, _FLOW) <= set(event), event
        assert event.get("ts", 0) >= 0 or phase == "X", event
        if phase == "X":
            assert event["dur"] >= 0, event
            frames = tuple(event.get("args", {}).get("frames", ()))
            span = Span(event["name"], event["ts"], event["ts"] + event["dur"], frames)
            trace.tracks[names[event["pid"], event["tid"]]].append(span)
        elif phase in "stf":
            trace.flows[event["id"]].append((phase, names[event["pid"], event["tid"]], event["ts"]))
            assert (event.get("bp") == "e") == (phase == "f"), event
        elif phase == "C":
            assert all(isinstance(value, (int, float)) for value in event["args"].values()), event
            trace.counters[event["name"]].append(event["args"])
        else:
            assert phase == "M" and event["name"] in _METADATA, event
    for spans in trace.tracks.values():
        spans.sort(key=lambda span: (span.begin, -span.end))
        _check_nesting(spans)
    for steps in trace.flows.values():
        steps.sort(key=lambda step: step[2])
        for _, track, at in steps:
            assert any(span.begin <= at <= span.end for span in trace.tracks[track]), (track, at)
    return trace


def _check_nesting(spans: list[Span]) -> None:
    """Two spans of a track follow each other, or one holds the other; rounding is to nanoseconds."""
    around: list[Span] = []
    for span in spans:
        while around and around[-1].end <= span.begin + 0.002:
            around.pop()
        assert not around or span.end <= around[-1].end + 0.002, (around[-1], span)
        around.append(span)


def overlapping(first: list[Span], second: list[Span]) -> bool:
    """Return whether a span of the one goes on at the same time as a span of the other."""
    return any(one.begin < other.end and other.begin < one.end for one in first for other in second)
