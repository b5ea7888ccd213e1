"""Delivers recorded pictures at the pace of their timestamps, as a live camera would."""

from __future__ import annotations

import threading
from typing import Any

from pipeline.clock import monotonic, utc
from pipeline.frame import Packet

_LONGEST_STEP_SECONDS = 10.0


class Pace:
    """Says when each picture is due, and waits for it.

    The schedule never slips: a consumer that was late gets what has fallen due meanwhile at once, as from a camera's
    socket, and its lag shows in the pictures' age instead of being hidden in a slower stream.
    """

    def __init__(self, fallback_fps: float | None, stopping: threading.Event) -> None:
        self._stopping = stopping
        self._usual_step = 1.0 / fallback_fps if fallback_fps else 1.0 / 25.0
        self._due: float | None = None
        self._last_timestamp: float | None = None

    def wait(self, timestamp: float | None) -> float | None:
        """Return, once it is due, when the picture of this timestamp (seconds) was due; None when stopping."""
        now = monotonic()
        if self._due is None:
            self._due = now
        else:
            self._due += self._step(timestamp)
        self._last_timestamp = timestamp
        while (remaining := self._due - monotonic()) > 0:
            if self._stopping.wait(remaining):
                return None
        return None if self._stopping.is_set() else self._due

    def _step(self, timestamp: float | None) -> float:
        if timestamp is None or self._last_timestamp is None:
            return self._usual_step
        step = timestamp - self._last_timestamp
        # A jump backwards, or by more than any camera pauses, is an edit in the recording, not time that passed.
        return step if 0.0 <= step <= _LONGEST_STEP_SECONDS else self._usual_step


def packet_read_now(payload: Any, pts_seconds: float | None, due: float | None = None) -> Packet:
    """Return a packet of something that was at hand: captured when it was ``due`` (monotonic seconds), or just now."""
    received_at = monotonic()
    captured_at = received_at if due is None else due
    return Packet(
        payload=payload,
        pts_seconds=pts_seconds,
        received_at=received_at,
        captured_at=captured_at,
        capture_utc=utc() - (received_at - captured_at),
        capture_clock="file",
    )
