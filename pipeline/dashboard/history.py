"""The last minutes of every stream, so that a page opened late shows what went before."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from pipeline import clock
from pipeline.keepup.status import StreamStatus

STEP_SECONDS = 2.0
"""Between two points: a screen's width holds ten minutes of them."""
_MOST_CHANGES = 500
FIGURES = ("camera_fps", "published_fps", "age_p50", "age_p95", "age_p99")


class Change(Struct, frozen=True):
    """Something that happened to a stream."""

    point: int
    """Number of the point in which it falls."""
    utc: float
    """Seconds since 1970."""
    stream_id: str
    verdict: str | None
    """The new verdict; None where somebody did something."""
    words: str
    """The verdict's cause, or what was done."""


class _StreamHistory:
    """A ring of points, 40 bytes each."""

    def __init__(self, points: int) -> None:
        self.figures: NDArray[np.float32] = np.full((points, len(FIGURES)), np.nan, np.float32)
        self.verdicts: list[str | None] = [None] * points
        self.dropped: dict[str, NDArray[np.int32]] = {}
        """Reason -> frames dropped since the point before."""
        self._totals: dict[str, int] | None = None

    def write(self, place: int, status: StreamStatus) -> None:
        age = status.age_seconds
        values = (status.cadence_fps, status.published_fps, age.p50, age.p95, age.p99)
        self.figures[place] = [np.nan if value is None else value for value in values]
        self.verdicts[place] = status.verdict
        totals = totals_by_reason(status.ledger.dropped)
        before = self._totals if self._totals is not None else totals  # what was lost before is not of this moment
        for reason, total in totals.items():
            if reason not in self.dropped:
                self.dropped[reason] = np.zeros(len(self.verdicts), np.int32)
            self.dropped[reason][place] = max(0, total - before.get(reason, 0))
        self._totals = totals

    def clear(self, place: int) -> None:
        self.figures[place] = np.nan
        self.verdicts[place] = None
        for counts in self.dropped.values():
            counts[place] = 0

    def read(self, places: Sequence[int]) -> dict[str, Any]:
        taken = self.figures[places]
        columns: dict[str, Any] = {
            name: [None if np.isnan(value) else round(float(value), 4) for value in taken[:, column]]
            for column, name in enumerate(FIGURES)
        }
        columns["verdict"] = [self.verdicts[place] for place in places]
        columns["dropped"] = {
            reason: counts[places].tolist() for reason, counts in self.dropped.items() if counts[places].any()
        }
        return columns


class History:
    """Keeps a point of every stream each ``STEP_SECONDS``, for so long. Thread-safe."""

    def __init__(self, seconds: float) -> None:
        self._points = max(2, round(seconds / STEP_SECONDS))
        self._streams: dict[str, _StreamHistory] = {}
        self._verdicts: dict[str, str] = {}
        self._changes: deque[Change] = deque(maxlen=_MOST_CHANGES)
        self._lock = threading.Lock()
        self._count = 0
        self._next_at = 0.0

    def record(self, statuses: Sequence[StreamStatus], now: float) -> None:
        """Take the statuses at ``now`` in, monotonic seconds: changes of verdicts at once, figures when a point is due.

        Call about once a second.
        """
        with self._lock:
            for status in statuses:
                self._note_verdict(status)
            if now < self._next_at:
                return
            # On a grid, so that points keep their distance however unevenly this is called.
            self._next_at = max(self._next_at + STEP_SECONDS, now + STEP_SECONDS / 2)
            place = self._count % self._points
            known = {status.stream_id: status for status in statuses}
            for gone in self._streams.keys() - known.keys():
                del self._streams[gone]
                self._verdicts.pop(gone, None)
            for stream_id, status in known.items():
                if stream_id not in self._streams:
                    self._streams[stream_id] = _StreamHistory(self._points)
                self._streams[stream_id].clear(place)
                self._streams[stream_id].write(place, status)
            self._count += 1

    def note(self, stream_id: str, words: str) -> None:
        """Remember what somebody did to a stream."""
        with self._lock:
            self._changes.append(Change(self._count, clock.utc(), stream_id, None, words))

    def read(
        self, *, since: int = 0, stream_ids: Iterable[str] | None = None, points: int | None = None
    ) -> dict[str, Any]:
        """Return the points from number ``since`` on, oldest first, at most ``points``; those of some streams or all.

        ``next`` is the number to ask for next time.
        """
        with self._lock:
            first = max(since, self._count - min(self._points, points or self._points), 0)
            places = [number % self._points for number in range(first, self._count)]
            asked = self._streams.keys() if stream_ids is None else [i for i in stream_ids if i in self._streams]
            return {
                "step_seconds": STEP_SECONDS,
                "first": first,
                "next": self._count,
                "most_points": self._points,
                "streams": {stream_id: self._streams[stream_id].read(places) for stream_id in asked},
                # What belongs to the point under way comes with it: else it would come twice.
                "changes": [change for change in self._changes if since <= change.point < self._count],
            }

    def _note_verdict(self, status: StreamStatus) -> None:
        stream_id, verdict = status.stream_id, status.verdict
        before, self._verdicts[stream_id] = self._verdicts.get(stream_id), verdict
        if verdict != before:
            words = status.cause or status.last_error
            self._changes.append(Change(self._count, clock.utc(), stream_id, verdict, words))


def totals_by_reason(dropped: dict[str, dict[str, int]]) -> dict[str, int]:
    """Return reason -> frames, over all stages."""
    totals: dict[str, int] = {}
    for reasons in dropped.values():
        for reason, count in reasons.items():
            totals[reason] = totals.get(reason, 0) + count
    return totals
