"""A worker's threads keep to one core, as long as nobody else wants it.

They take turns by Python's lock, so more cores gain nothing. They cost: whoever lets the lock go for a moment wakes
another thread, on another core, and both fight for the next turn. On two cores 16 streams come to 17 changes of
threads a frame, on one core to 3, at 1.6 times the frames a second (tests/benchmarks/bench_host_path.py).
"""

from __future__ import annotations

import logging
import random
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from engines.cores import all_cores, best_first, keep_to
from pipeline.clock import monotonic
from pipeline.workers.figures import cpu_seconds

LEFT_ALONE_SHARE = 0.3
"""A core on which others spend more than this share of the time is theirs, too."""
_SECONDS_AN_INTERRUPT = 50e-6
"""What answering a device costs whoever runs on that core, in whose time it is counted: of two workers that waited for
an H100 equally often, the one on the core that answers it needed twice the time."""
_FEWEST_LOOKS, _MOST_LOOKS = 2, 120
"""Looks in a row before a core is left: more each time, where none is left alone for long."""

_STAT, _INTERRUPTS = Path("/proc/stat"), Path("/proc/interrupts")
_TICKS_A_SECOND = 100.0
_IDLE = slice(3, 5)
"""Columns of a core's line: idle, and waiting for a disk."""
_TOLD = slice(0, 8)
"""Columns that add up to all its time."""

_log = logging.getLogger("onpace.workers")


class OneCore:
    """Chooses a core, and another when it is wanted. Not thread-safe."""

    def __init__(self, number: int, workers: int, stat: Path = _STAT, interrupts: Path = _INTERRUPTS) -> None:
        """``number`` of the worker, from 1, of so many ``workers``. ``stat`` and ``interrupts``: those of /proc."""
        self._stat = stat
        self._interrupts = interrupts
        self._cores = all_cores()
        order = best_first(self._cores)
        self._own = order[(number - 1) % len(order)]
        """No other worker's, unless there are more workers than cores."""
        self._spare = order[workers:]
        self._core: int | None = None
        self._begun = False
        self._unwelcome = 0
        self._patience = _FEWEST_LOOKS
        self._before = self._times()

    @property
    def core(self) -> int | None:
        """Where the worker is; None while it may be anywhere."""
        return self._core

    def look(self) -> None:
        """Choose where to be, by how busy the cores were since the last look.

        The first time that is its own core, however busy: workers that have not chosen yet are on all of them. Where
        others want it, or a device, the worker goes to a core that is no worker's own: two of them on one would both
        come too late.
        """
        wanted = self._wanted()
        if self._core is not None:
            self._unwelcome = self._unwelcome + 1 if wanted.get(self._core, 0.0) > LEFT_ALONE_SHARE else 0
            if self._unwelcome < self._patience:
                return
            self._patience = min(2 * self._patience, _MOST_LOOKS)
        quiet = {core for core, share in wanted.items() if core != self._core and share <= LEFT_ALONE_SHARE}
        core: int | None = None
        if self._own in (quiet if self._begun else wanted):
            core = self._own
        elif spare := [core for core in self._spare if core in quiet]:
            core = random.choice(spare)  # another worker may be leaving its own at the same moment
        self._begun = True
        if core != self._core:
            try:
                keep_to(self._cores if core is None else frozenset({core}))
            except OSError as error:  # some containers may not choose
                _log.info("this worker cannot keep to one core: %s", error.strerror)
                core, self._cores, self._spare, self._own = None, frozenset(), [], -1
        self._core, self._unwelcome = core, 0

    def _wanted(self) -> dict[int, float]:
        """Return core -> share of its time since the last look that others spent there, devices among them."""
        before, self._before = self._before, self._times()
        now = self._before
        seconds = now.at - before.at
        if seconds <= 0.0:
            return {}
        wanted = {core: (now.busy[core] - spent) / seconds for core, spent in before.busy.items() if core in now.busy}
        if self._core in wanted:
            wanted[self._core] -= (now.own - before.own) / seconds
        for core in wanted:
            answered = now.interrupts.get(core, 0) - before.interrupts.get(core, 0)
            wanted[core] += answered * _SECONDS_AN_INTERRUPT / seconds
        return wanted

    def _times(self) -> _Times:
        busy: dict[int, float] = {}
        for name, *columns in (line.split() for line in _lines(self._stat)):
            if name.startswith("cpu") and name != "cpu" and (core := int(name[3:])) in self._cores:
                told = [int(column) for column in columns]
                busy[core] = (sum(told[_TOLD]) - sum(told[_IDLE])) / _TICKS_A_SECOND
        return _Times(monotonic(), cpu_seconds(), busy, _answered(self._interrupts))


class _Times(NamedTuple):
    at: float
    """Monotonic seconds."""
    own: float
    """This process's processor time, in seconds."""
    busy: dict[int, float]
    """Of each core, in seconds."""
    interrupts: dict[int, int]
    """Of devices, that each core answered."""


def _answered(interrupts: Path) -> dict[int, int]:
    """Return core -> interrupts of devices that it answered so far."""
    header, *lines = _lines(interrupts) or [""]
    cores = [int(name[3:]) for name in header.split()]
    answered = dict.fromkeys(cores, 0)
    for number, *counts in (line.split() for line in lines):
        if number.rstrip(":").isdigit():  # the others are the system's own
            for core, count in zip(cores, counts, strict=False):
                answered[core] += int(count)
    return answered


def _lines(told: Path) -> list[str]:
    with suppress(OSError):
        return [line for line in told.read_text().splitlines() if line.strip()]
    return []
