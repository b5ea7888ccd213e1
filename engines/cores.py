"""Which cores this process may really use, by affinity and container quota; and threads that keep to one of them."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_CORES = Path("/sys/devices/system/cpu")

_all_cores: frozenset[int] | None = None
"""Of a process that keeps to one of them."""
_roaming: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
_moving = threading.Lock()
"""Held while threads are sent to other cores."""


def usable_cores(cgroup: Path = _CGROUP) -> int:
    """Return the number of cores, at least 1. ``cgroup`` is where the control group is mounted (v2 or v1)."""
    try:
        cores = len(all_cores())
    except AttributeError:  # only Linux tells
        cores = os.cpu_count() or 1
    quota = _quota(cgroup)
    if quota is not None:
        cores = min(cores, int(quota + 0.5))
    return max(1, cores)


def all_cores() -> frozenset[int]:
    """Return the numbers of the cores that this process may use. Raises AttributeError outside Linux."""
    return _all_cores or frozenset(os.sched_getaffinity(0))


def best_first(cores: Iterable[int], system: Path = _CORES) -> list[int]:
    """Return ``cores`` as work is best shared out to them: one thread of every core first, the fastest before others.

    Two threads of one core share its arithmetic. Among equals the last comes first: the first cores are where most
    systems answer devices. ``system`` is where Linux tells; what it does not tell makes no difference.
    """
    latest = sorted(cores, reverse=True)
    alike = {core: sorted(_siblings(core, system) & set(latest), reverse=True) for core in latest}
    return sorted(latest, key=lambda core: (alike[core].index(core), -_megahertz(core, system), -core))


def _siblings(core: int, system: Path) -> set[int]:
    """Return the threads of the physical core that ``core`` is one of, itself included."""
    found = {core}
    with suppress(OSError, ValueError):
        for part in (system / f"cpu{core}" / "topology" / "thread_siblings_list").read_text().strip().split(","):
            first, _, last = part.partition("-")
            found.update(range(int(first), int(last or first) + 1))
    return found


def _megahertz(core: int, system: Path) -> int:
    """Return how fast a core may become; 0 where the system does not tell."""
    with suppress(OSError, ValueError):
        return int((system / f"cpu{core}" / "cpufreq" / "cpuinfo_max_freq").read_text()) // 1000
    return 0


def keep_to(cores: frozenset[int]) -> None:
    """Keep every Python thread of this process, and what it starts from now on, to ``cores``.

    Those that ``roam`` go on doing so. Raises OSError where the system refuses.
    """
    global _all_cores
    with _moving:
        _all_cores = all_cores()
        for thread in threading.enumerate():
            if thread.native_id is not None and thread not in _roaming:
                with suppress(ProcessLookupError):  # it has just ended
                    os.sched_setaffinity(thread.native_id, cores)


def roam() -> None:
    """Let the calling thread, and what it starts from now on, use all cores: work that leaves Python's lock alone."""
    with _moving:
        if _all_cores is not None:
            with suppress(OSError):  # where the system refuses, the thread was never kept to a core either
                os.sched_setaffinity(0, _all_cores)
            _roaming.add(threading.current_thread())


@contextmanager
def children_roam() -> Iterator[None]:
    """Let what the calling thread starts meanwhile use all cores, while it stays itself where it is kept.

    For a library's own threads, which nobody moves afterwards. Be brief: no thread is moved meanwhile.
    """
    with _moving:
        if _all_cores is None or (own := os.sched_getaffinity(0)) == _all_cores:
            yield
            return
        os.sched_setaffinity(0, _all_cores)
        try:
            yield
        finally:
            os.sched_setaffinity(0, own)


def _quota(cgroup: Path) -> float | None:
    """Return the container's CPU quota in cores, None where there is none."""
    try:
        limit, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            limit = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    try:
        return int(limit) / int(period) if int(limit) > 0 else None
    except (ValueError, ZeroDivisionError):  # "max": no quota
        return None
