"""Puts segments of several connections and runs behind each other: arrivals and time stamps only ever grow."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from pipeline.record.times import PacketTimes, SegmentHeader

_BETWEEN_RUNS_SECONDS = 0.04
"""Nobody knows how long it was between two runs of the recorder; it is played as one frame."""


class TimeLine:
    """Not thread-safe."""

    def __init__(self, ticks: Fraction) -> None:
        """``ticks``: seconds a tick of the time stamps that are given out."""
        self._ticks = ticks
        self._own_ticks = ticks
        self._run = ""
        self._connection = 0
        self._new_run = self._new_connection = False
        self._arrived = -_BETWEEN_RUNS_SECONDS
        self._shift_seconds = 0.0
        self._shift_ticks = 0
        self._latest_stamp: int | None = None
        self._stamped_at = 0.0  # a camera's first packet may come without a time stamp

    def begin(self, header: SegmentHeader) -> None:
        """A segment begins."""
        self._new_run = self._new_run or header.run != self._run
        self._new_connection = self._new_connection or self._new_run or header.connection != self._connection
        self._run, self._connection = header.run, header.connection
        self._own_ticks = Fraction(*header.ticks)

    def place(self, coded: Any, times: PacketTimes) -> float:
        """Give the PyAV packet its time stamps; return its arrival in seconds since the first packet of all."""
        if self._new_run:
            self._shift_seconds = self._arrived + _BETWEEN_RUNS_SECONDS - times.arrived
            self._new_run = False
        self._arrived = times.arrived + self._shift_seconds
        pts, dts = self._in_ticks(times.pts), self._in_ticks(times.dts)
        stamp = dts if pts is None else pts
        if self._new_connection and stamp is not None:
            # The camera counts anew; for whoever looks it went on counting through the gap.
            if self._latest_stamp is not None:
                gap = round((self._arrived - self._stamped_at) / self._ticks)
                self._shift_ticks = self._latest_stamp + gap - stamp
            self._new_connection = False
        coded.time_base = self._ticks
        coded.pts = None if pts is None else pts + self._shift_ticks
        coded.dts = None if dts is None else dts + self._shift_ticks
        if stamp is not None:
            self._stamped_at = self._arrived
            self._latest_stamp = max(self._latest_stamp or stamp, stamp + self._shift_ticks)
        return self._arrived

    def _in_ticks(self, stamp: int | None) -> int | None:
        return None if stamp is None else round(stamp * self._own_ticks / self._ticks)
