"""Writes one file of a recording: packets as they came into Matroska, their times into the side file.

Matroska takes every codec cameras speak and any player reads it, also when its end is missing. Its clusters are closed
every quarter of a second, so that a power cut costs no more. Its time stamps are the arrival times, in milliseconds: a
camera's own may jump, and would end the file.
"""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from pipeline.frame import Packet
from pipeline.record.times import PacketTimes, SegmentHeader, line_of, times_path

_OPTIONS = {"cluster_time_limit": "250", "flush_packets": "1"}
_MILLISECONDS = Fraction(1, 1000)


class Segment:
    """One pair of files that is being written. Not thread-safe; close it always (closing twice is safe)."""

    def __init__(self, video: Path, template: Any, header: SegmentHeader, arrived: float) -> None:
        """``template``: the PyAV stream of the packets. ``arrived``: its first packet, seconds since the run's zero.

        Raises OSError where the files cannot be made, ValueError for a codec that Matroska does not take.
        """
        self.path = video
        self.bytes = 0
        self._began = arrived
        self._last_ms = -1
        self._times = os.open(times_path(video), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._container: Any = None
        try:
            os.write(self._times, line_of(header))
            self._container = av.open(str(video), "w", format="matroska", container_options=dict(_OPTIONS))
            self._stream = self._container.add_stream_from_template(template, opaque=True)  # no encoder needed
            self._stream.time_base = _MILLISECONDS
        except BaseException:
            self.close()
            raise

    def seconds(self, arrived: float) -> float:
        """Return how long the segment is when a packet arrives then."""
        return arrived - self._began

    def write(self, packet: Packet, coded: Any, arrived: float) -> None:
        """Append ``coded``, which belongs to the segment from now on. Raises OSError when the disk does not take it."""
        self._last_ms = max(round((arrived - self._began) * 1000), self._last_ms + 1)
        times = PacketTimes(
            ms=self._last_ms,
            arrived=round(arrived, 6),
            age=round(packet.received_at - packet.captured_at, 6),
            clock=packet.capture_clock,
            pts=coded.pts,
            dts=coded.dts,
        )
        os.write(self._times, line_of(times))
        self.bytes += coded.size
        coded.time_base = _MILLISECONDS
        coded.pts = coded.dts = self._last_ms
        coded.stream = self._stream
        self._container.mux_one(coded)

    def close(self) -> None:
        """Finish both files."""
        container, self._container = self._container, None
        times, self._times = self._times, -1
        try:
            if container is not None:
                container.close()
        finally:
            if times >= 0:
                os.close(times)
