"""Times two ways to use the cores against each other, briefly: many narrow runs at once, or one wide run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Literal

Shape = Literal["latency", "by_load", "throughput", "short"]
"""One wide run; one wide or many narrow ones, by the load; many narrow; so short that feeding them costs more."""
Run = Callable[[int], object]
"""Runs a batch of so many pictures."""

BUDGET_SECONDS = 1.2
_TURNS = 3
_WIDE_MUST_GAIN = 1.1
"""Decoding and preprocessing want the cores too: that delays one narrow run, but every thread of a wide one."""
_WIDE_MUST_GAIN_LIVE = 1.15
"""Where latency counts, one wide run must still be so much shorter than one narrow run: it costs capacity."""

_NARROW_MAY_TAKE = 2.2
"""Beyond so many times a wide run, a narrow one is too old when it comes, however many there are a second."""
_NARROW_MUST_KEEP = 0.95
"""Share of the wide runs a second that narrow ones must reach to be worth changing to when decoding interrupts both."""

_TOO_SHORT_SECONDS = 0.0005
"""A run that is over sooner has ended before another thread is awake to help with it."""


def faster_shape(
    narrow: Sequence[Run], wide: Run, *, latency_counts: bool = False, budget_seconds: float = BUDGET_SECONDS
) -> tuple[Shape, str]:
    """Return the faster shape and the numbers, for people.

    Faster is more runs a second, or a shorter run where ``latency_counts``; "by_load" where each is the better one at
    times.
    Both take turns, so that whatever else the machine does falls on both; each counts whole runs, at least one a turn.
    """
    turn_seconds = budget_seconds / (2 * _TURNS)
    narrow_rates, wide_rates = [], []
    for _ in range(_TURNS):
        narrow_rates.append(rate_together(narrow, turn_seconds))
        wide_rates.append(rate_together([wide], turn_seconds))
    narrow_rate, wide_rate = sorted(narrow_rates)[_TURNS // 2], sorted(wide_rates)[_TURNS // 2]
    if len(narrow) / narrow_rate < _TOO_SHORT_SECONDS:
        return "short", f"runs of {1000 * len(narrow) / narrow_rate:.2g} ms are too short to share"
    if latency_counts:
        narrow_ms, wide_ms = 1000 * len(narrow) / narrow_rate, 1000 / wide_rate
        why = f"one live stream, measured {narrow_ms:.3g} ms a narrow run, {wide_ms:.3g} ms a wide run"
        if narrow_ms <= _WIDE_MUST_GAIN_LIVE * wide_ms:
            return "throughput", why
        both = narrow_ms <= _NARROW_MAY_TAKE * wide_ms and narrow_rate >= _NARROW_MUST_KEEP * wide_rate
        return "by_load" if both else "latency", why
    shape: Shape = "latency" if wide_rate > _WIDE_MUST_GAIN * narrow_rate else "throughput"
    return shape, f"measured {narrow_rate:.3g} runs/s narrow, {wide_rate:.3g} runs/s wide"


def rate_together(runs: Sequence[Run], seconds: float) -> float:
    """Run all at once, again and again for so many seconds; return runs a second. Raises what a run raises."""

    def repeat(run: Run) -> float:
        begun, count = monotonic(), 0
        while not count or monotonic() - begun < seconds:
            run(1)
            count += 1
        return count / (monotonic() - begun)

    with ThreadPoolExecutor(len(runs), thread_name_prefix="onpace-warm-up") as pool:
        return sum(pool.map(repeat, runs))


def run_together(runs: Sequence[Run], batch_size: int = 1) -> None:
    """Run all at once, once each, and wait for the last. Raises what a run raises."""
    with ThreadPoolExecutor(len(runs), thread_name_prefix="onpace-warm-up") as pool:
        for done in [pool.submit(run, batch_size) for run in runs]:
            done.result()
