"""Times two ways to use the cores against each other, briefly: many narrow runs at once, or one wide run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Literal

Shape = Literal["latency", "throughput"]
Run = Callable[[int], object]
"""Runs a batch of so many pictures."""

BUDGET_SECONDS = 1.0
WORTH_IT = 1.03
"""Narrow runs must be this much faster: they take longer each, so a tie goes to the wide run."""


def faster_shape(narrow: Sequence[Run], wide: Run, budget_seconds: float = BUDGET_SECONDS) -> tuple[Shape, str]:
    """Return the faster shape and the numbers, for people.

    Rounds of both alternate, so that whatever else the machine does falls on both; at least one round of each is
    timed, however slow. All runs must be warm, except for the arenas of concurrent ones: the first round is not timed.
    """
    started = monotonic()
    run_together(narrow)
    narrow_seconds = wide_seconds = 0.0
    rounds = 0
    while rounds == 0 or monotonic() - started < budget_seconds:
        narrow_seconds += run_together(narrow)
        begun = monotonic()
        for _ in narrow:
            wide(1)
        wide_seconds += monotonic() - begun
        rounds += 1
    runs = rounds * len(narrow)
    shape: Shape = "throughput" if wide_seconds > WORTH_IT * narrow_seconds else "latency"
    narrow_rate, wide_rate = runs / narrow_seconds, runs / wide_seconds
    return shape, f"measured {narrow_rate:.3g} runs/s narrow, {wide_rate:.3g} runs/s wide"


def run_together(runs: Sequence[Run], batch_size: int = 1) -> float:
    """Run all at once, once each; return the seconds until the last is done. Raises what a run raises."""
    with ThreadPoolExecutor(len(runs), thread_name_prefix="onpace-warm-up") as pool:
        begun = monotonic()
        for done in [pool.submit(run, batch_size) for run in runs]:
            done.result()
        return monotonic() - begun
