"""How many more such cameras would fit, from how busy things are now.

A stage that is busy for the share U of its workers' time, while F frames a second come out, could give F / U. So could
the processor: the share of it that is this process's or idle, over what this process uses. The smallest of these is the
capacity in frames a second; what is wanted of the cameras already is taken from it, and the rest is counted in cameras.
Frames that a limited rate or a stride leaves out are not wanted: they cost what decoding them takes, and no more.

Somebody else's load on the same cores counts as gone. All cameras are taken to cost the same.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.keepup.status import StreamStatus

USABLE = 0.95
"""Share of a stage or processor that can be used while frames still keep pace: with less to spare, queues grow."""

_STEP_SECONDS = 0.25
_FEWEST_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class CpuUse:
    """Processor time since some moment, in core-seconds."""

    own: float
    """Used by this process."""
    idle: float | None
    """Left over by everybody, on the cores that this process may use; None where the system does not tell."""


def read_cpu_use(stat: Path = Path("/proc/stat")) -> CpuUse:
    """Return the processor use so far."""
    spent = os.times()
    return CpuUse(spent.user + spent.system, _idle_seconds(stat))


def _idle_seconds(stat: Path) -> float | None:
    try:
        mine = {f"cpu{core}" for core in os.sched_getaffinity(0)}
        ticks = os.sysconf("SC_CLK_TCK")
        rows = (line.split() for line in stat.read_text().splitlines() if line.startswith("cpu"))
        return sum(int(row[4]) + int(row[5]) for row in rows if row[0] in mine) / ticks
    except (AttributeError, OSError, ValueError, IndexError):  # only Linux tells
        return None


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float
    use: CpuUse
    published: int


class Headroom:
    """The process's capacity, estimated over ``window_seconds``. Not thread-safe. Times are monotonic seconds."""

    def __init__(self, window_seconds: float, cores: int, read: Callable[[], CpuUse] = read_cpu_use) -> None:
        self._window = window_seconds
        self._cores = cores
        self._read = read
        self._samples: deque[_Sample] = deque()
        self._capacity: float | None = None
        self._of: frozenset[str] = frozenset()

    def update(self, statuses: Sequence[StreamStatus], shared: Sequence[float], now: float) -> list[StreamStatus]:
        """Return ``statuses`` with ``headroom_streams`` filled in where it is known.

        ``shared``: utilisation, 0-1, of each stage that all streams share. (Decoding has a thread a stream: only the
        processor bounds it.)
        """
        ids = frozenset(status.stream_id for status in statuses)
        if ids != self._of:  # what others published so far says nothing about these
            self._of = ids
            self._samples.clear()
        if not self._samples or now - self._samples[-1].at >= _STEP_SECONDS:
            self._sample(statuses, shared, now)
        demand = sum(status.wanted_fps for status in statuses)
        if self._capacity is None or not all(status.live for status in statuses):
            return list(statuses)
        spare = self._capacity - demand
        return [
            replace(status, headroom_streams=round(spare / status.wanted_fps, 2)) if status.wanted_fps else status
            for status in statuses
        ]

    def _sample(self, statuses: Sequence[StreamStatus], shared: Sequence[float], now: float) -> None:
        published = sum(status.ledger.published for status in statuses)
        self._samples.append(_Sample(now, self._read(), published))
        while now - self._samples[0].at > self._window and len(self._samples) > 2:
            self._samples.popleft()
        first, last = self._samples[0], self._samples[-1]
        seconds = last.at - first.at
        if seconds < _FEWEST_SECONDS or last.published == first.published:
            self._capacity = None
            return
        rate = (last.published - first.published) / seconds
        bounds = [rate * USABLE / used for used in shared if used > 0]
        own = (last.use.own - first.use.own) / seconds
        if own > 0:
            bounds.append(rate * self._usable_cores(first, last, own, seconds) / own)
        self._capacity = min(bounds, default=None)

    def _usable_cores(self, first: _Sample, last: _Sample, own: float, seconds: float) -> float:
        if first.use.idle is None or last.use.idle is None:
            return USABLE * self._cores
        idle = (last.use.idle - first.use.idle) / seconds
        return max(0.0, min(float(self._cores), own + idle) - (1 - USABLE) * self._cores)
