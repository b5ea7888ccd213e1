"""A worker's own figures, for its reports; and how the parent puts those of several together."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline.metrics.buckets import AGE_BOUNDS, STAGE_BOUNDS, Buckets
from pipeline.metrics.frame_times import FrameTimes
from pipeline.workers.notes import Times


def cpu_seconds() -> float:
    """Return the processor time that this process used so far."""
    spent = os.times()
    return spent.user + spent.system


def resident_bytes() -> int:
    """Return the memory that this process holds; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def times_of(times: FrameTimes) -> Times:
    """Return what frames took as a report holds it."""
    return Times(ages=_plain(times.ages), waits=_plain(times.waits), stages=_plain(times.stages))


def merged_times(reported: Iterable[Times]) -> FrameTimes:
    """Return all of them as one."""
    merged = FrameTimes()
    for times in reported:
        _count_in(merged.ages, times.ages, AGE_BOUNDS)
        _count_in(merged.waits, times.waits, AGE_BOUNDS)
        _count_in(merged.stages, times.stages, STAGE_BOUNDS)
    return merged


def _plain(buckets: Mapping[str, Buckets]) -> dict[str, tuple[list[int], float]]:
    return {name: (one.counts(), one.total) for name, one in buckets.items()}


def _count_in(
    into: dict[str, Buckets], reported: Mapping[str, tuple[list[int], float]], bounds: tuple[float, ...]
) -> None:
    for name, (counts, total) in reported.items():
        into.setdefault(name, Buckets(bounds)).add(counts, total)
