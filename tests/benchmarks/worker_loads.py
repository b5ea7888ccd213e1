"""What a run's processes did for a while: where, how busy, and how long they had to wait for a core."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil


class _Spent(NamedTuple):
    on_core: float
    """Seconds."""
    waited: float
    """Seconds in which a thread could have run and did not; 0 where the system does not tell."""
    interrupted: float
    """How often a thread had to make room for another."""


class WorkerLoads:
    """Looks at this process and its workers, from its making on."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._before = {process.pid: _spent(process) for process in _processes()}

    def since(self) -> list[list[float | str]]:
        """Return of each process, this one first: its cores, the share of one core that it used, the share that it
        waited for (over all threads, so it may be more than 1), and how often a second it had to make room.
        """
        seconds = time.monotonic() - self._begun
        rows: list[list[float | str]] = []
        for process in _processes():
            before, now = self._before.get(process.pid), _spent(process)
            if before is not None:
                shares = [round((later - earlier) / seconds, 3) for earlier, later in zip(before, now, strict=True)]
                rows.append([_cores(process), *shares])
        return rows


def _processes() -> list[psutil.Process]:
    own = psutil.Process()
    with suppress(psutil.Error):
        return [own, *(child for child in own.children() if "pipeline.workers.child" in " ".join(child.cmdline()))]
    return [own]


def _spent(process: psutil.Process) -> _Spent:
    times, waited = process.cpu_times(), 0
    for thread in Path(f"/proc/{process.pid}/task").glob("*/schedstat"):
        with suppress(OSError):
            waited += int(thread.read_text().split()[1])
    return _Spent(times.user + times.system, waited / 1e9, process.num_ctx_switches().involuntary)


def _cores(process: psutil.Process) -> str:
    cores = sorted(os.sched_getaffinity(process.pid))
    return ",".join(map(str, cores)) if len(cores) < (os.cpu_count() or 1) else "any"
