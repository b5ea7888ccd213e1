"""Counts what had to be made before models could run: plans, and models in another precision."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Literal, NamedTuple, get_args

BuildResult = Literal["built", "found", "failed", "cancelled"]
"""found: it was made before, and nothing had to be built."""

RESULTS: tuple[BuildResult, ...] = get_args(BuildResult)
AS_IT_IS = "as_is"
"""Precision of a model that is not turned into another."""


class BuildCount(NamedTuple):
    """How often something ended so."""

    runtime: str
    precision: str
    result: BuildResult
    builds: int
    seconds: float
    """All of them together; 0 for what was found."""


def merged(counts: Iterable[BuildCount]) -> list[BuildCount]:
    """Return one count of each kind and result: the sum."""
    sums: dict[tuple[str, str, BuildResult], tuple[int, float]] = {}
    for one in counts:
        kind = (one.runtime, one.precision, one.result)
        builds, seconds = sums.get(kind, (0, 0.0))
        sums[kind] = builds + one.builds, seconds + one.seconds
    return [BuildCount(*kind, *count) for kind, count in sums.items()]


class Builds:
    """The builds of one pipeline. Thread-safe."""

    def __init__(self) -> None:
        self.elsewhere: Callable[[], Iterable[BuildCount]] = tuple
        """Asked for those that other processes made for it."""
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str], dict[BuildResult, tuple[int, float]]] = {}

    def expect(self, runtime: str, precision: str | None) -> None:
        """Count this kind from 0 on."""
        with self._lock:
            self._kind(runtime, precision)

    def found(self, runtime: str, precision: str | None) -> None:
        """What was needed had been made before."""
        self._add(runtime, precision, "found", 0.0)

    @contextmanager
    def making(
        self, runtime: str, precision: str | None, cancelled: Callable[[], bool] = lambda: False
    ) -> Iterator[None]:
        """What happens inside is one build; ``cancelled`` tells whether somebody ended it, where it raises."""
        begun = monotonic()
        done = False
        try:
            yield
            done = True
        finally:
            result: BuildResult = "built" if done else "cancelled" if cancelled() else "failed"
            self._add(runtime, precision, result, monotonic() - begun)

    def counts(self) -> list[BuildCount]:
        """Return every count, zeros included."""
        with self._lock:
            own = [
                BuildCount(*kind, result, *count)
                for kind, results in self._counts.items()
                for result, count in results.items()
            ]
        return merged([*own, *self.elsewhere()])

    def _add(self, runtime: str, precision: str | None, result: BuildResult, seconds: float) -> None:
        with self._lock:
            results = self._kind(runtime, precision)
            builds, before = results[result]
            results[result] = builds + 1, before + seconds

    def _kind(self, runtime: str, precision: str | None) -> dict[BuildResult, tuple[int, float]]:
        return self._counts.setdefault((runtime, precision or AS_IT_IS), dict.fromkeys(RESULTS, (0, 0.0)))
