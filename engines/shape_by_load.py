"""Wide runs while they keep up, narrow ones where they do not: for one live stream that asks for more than there is.

One run on all cores answers a single camera soonest. Where it has no time left between two runs the answer comes late
all the same, and several runs of one thread each make more of the cores: no thread waits for another at the end of
every operator, least of all for one that decoding has just interrupted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import nullcontext
from time import monotonic
from typing import Any

from numpy.typing import NDArray

from engines.runtime import Slot, Tensors

_LOOK_SECONDS = 1.0
_USED_UP = 0.85
"""Share of the time in which a wide run goes on, from which on there is no room for more."""
_ROOM_AGAIN = 0.7
"""Share of the time that the frames would need in wide runs, below which those keep up again."""


class ShapeByLoad:
    """Which shape the next run takes. Thread-safe. Begins wide; looks back every second."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.wide = True
        self._clock = clock
        self._lock = threading.Lock()
        self._gate = threading.Lock()
        self._since = clock()
        self._runs = 0
        self._wide_seconds = 0.0
        self._usual_wide_seconds = 0.0

    def run(self, wide: Callable[[], Tensors], narrow: Callable[[], Tensors]) -> Tensors:
        """Run one of the two; wide runs one at a time."""
        is_wide = self.wide
        with self._gate if is_wide else nullcontext():
            begun = self._clock()
            outputs = (wide if is_wide else narrow)()
            ended = self._clock()
        with self._lock:
            self._runs += 1
            if is_wide:
                self._wide_seconds += ended - begun
            if ended - self._since >= _LOOK_SECONDS:
                self._look(ended - self._since)
                self._since, self._runs, self._wide_seconds = ended, 0, 0.0
        return outputs

    def _look(self, seconds: float) -> None:
        if self.wide:
            self._usual_wide_seconds = self._wide_seconds / self._runs
            self.wide = self._wide_seconds < _USED_UP * seconds
        else:
            self.wide = self._runs * self._usual_wide_seconds < _ROOM_AGAIN * seconds


class EitherSlot:
    """A slot whose runs are wide or narrow. Both read the same input."""

    def __init__(self, wide: Slot, narrow: Slot, by_load: ShapeByLoad) -> None:
        self._wide = wide
        self._narrow = narrow
        self._by_load = by_load

    @property
    def input(self) -> NDArray[Any]:
        """The input tensor, as of any slot."""
        return self._wide.input

    def run(self, batch_size: int, extra: Tensors | None = None) -> Tensors:
        """Run the first ``batch_size`` rows of ``input``. Raises RunError."""
        return self._by_load.run(lambda: self._wide.run(batch_size, extra), lambda: self._narrow.run(batch_size, extra))
