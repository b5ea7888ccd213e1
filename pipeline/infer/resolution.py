"""``adapt: resolution``: watches what the streams lose, and says at which input size their frames are run.

One size for all streams that may run smaller, and the full one for the others. What is short is the model, which all
share: sizes of their own would only share out by another measure what ``weight`` and ``min_fps`` share out already, and
break batches up into runs of one frame each.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from engines.runtime import Runtime
from pipeline.frame import Frame
from pipeline.infer.input_sizes import input_size, size_text
from pipeline.infer.size_choice import LOOK_SECONDS, Frames, SizeChoice
from pipeline.infer.sized_runtime import SizedRuntime
from pipeline.keepup.ledger import Ledger
from pipeline.keepup.load import BusyClock
from pipeline.keepup.settings import OVERLOAD_REASONS

_EVERY_SECONDS = 0.25

_log = logging.getLogger("onpace.infer")


class _Plan(Protocol):
    @property
    def live(self) -> bool: ...

    @property
    def shrinks(self) -> bool: ...


class _Meter(Protocol):
    @property
    def ledger(self) -> Ledger: ...


class Adapting(Protocol):
    """One stream, as far as its input size is concerned."""

    @property
    def plan(self) -> _Plan:
        """Whether it is live, and may run smaller."""

    @property
    def meter(self) -> _Meter:
        """What it lost."""


class Resolution:
    """The input size in use. Thread-safe: slots ask and report, one thread ticks."""

    def __init__(self, streams: Mapping[str, Adapting], hysteresis_seconds: float, runtime: Runtime) -> None:
        """``streams`` by id, which come and go; ``runtime``: what runs their frames, see ``use``."""
        self._streams = streams
        self._hysteresis_seconds = hysteresis_seconds
        self._lock = threading.Lock()
        self._sizes: list[str]
        self._choice: SizeChoice | None
        self._busy: BusyClock
        self._inferred: Counter[tuple[bool, bool]] = Counter()
        self._lost: Counter[tuple[bool, bool]] = Counter()
        self._lost_of: dict[str, int] = {}
        self._next_tick = 0.0
        self.use(runtime)

    def use(self, runtime: Runtime) -> None:
        """Begin with ``runtime`` at full size; one without smaller sizes stays there."""
        sized = runtime if isinstance(runtime, SizedRuntime) else None
        with self._lock:
            self._choice = SizeChoice(sized.costs, self._hysteresis_seconds) if sized else None
            self._sizes = [size_text(input_size(spec)) for spec in sized.specs] if sized else []
            self._busy = BusyClock(LOOK_SECONDS, workers=runtime.concurrent_runs)

    @property
    def level(self) -> int:
        """Place of the size in use among the runtime's, 0 for the full one. Holds for streams that ``shrinks``."""
        choice = self._choice
        return choice.level if choice else 0

    def shrinks(self, frame: Frame) -> bool:
        """Whether a frame is of a stream that may run smaller."""
        return self._streams[frame.stream_id].plan.shrinks

    def working(self) -> AbstractContextManager[None]:
        """Return a context manager: a slot works inside."""
        return self._busy.working()

    def ran(self, frames: list[Frame]) -> None:
        """A slot has worked on ``frames``."""
        kinds = [self._kind(self._streams[frame.stream_id]) for frame in frames]
        with self._lock:
            self._inferred.update(kinds)

    def tick(self, now: float) -> None:
        """Reconsider the size, a few times a second. One thread at a time."""
        if self._choice is None or now < self._next_tick:
            return
        self._next_tick = now + _EVERY_SECONDS
        self._count_lost()
        busy = self._busy.utilisation(now)
        with self._lock:
            choice, sizes = self._choice, self._sizes
            if choice is None or not choice.update(now, busy, self._frames()):
                return
            level, needed = choice.level, choice.needed
        if level:
            why = f"all frames would need {needed:.0%} of the model's time".replace("%", " %")
            _log.warning("input %s instead of %s: %s", sizes[level], sizes[0], why)
        else:
            _log.info("input %s again: there is room for all frames", sizes[0])

    def _frames(self) -> Frames:
        patient = self._inferred[False, False] + self._inferred[False, True]
        return Frames(
            adapting=self._inferred[True, True],
            fixed=self._inferred[True, False],
            patient=patient,
            adapting_lost=self._lost[True, True],
            fixed_lost=self._lost[True, False],
        )

    def _count_lost(self) -> None:
        """Add what was lost since the last time; what removed streams lost stays counted."""
        seen: dict[str, int] = {}
        for stream_id, stream in self._streams.items():
            dropped = stream.meter.ledger.snapshot().dropped.values()
            lost = sum(n for reasons in dropped for reason, n in reasons.items() if reason in OVERLOAD_REASONS)
            seen[stream_id] = lost
            self._lost[self._kind(stream)] += max(0, lost - self._lost_of.get(stream_id, 0))
        self._lost_of = seen

    @staticmethod
    def _kind(stream: Adapting) -> tuple[bool, bool]:
        return stream.plan.live, stream.plan.shrinks
