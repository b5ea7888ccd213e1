"""The process from the side: how busy the stages are that all streams share, and what that means for each stream."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from pipeline.bounded_queue import BoundedQueue
from pipeline.keepup.headroom import Headroom
from pipeline.keepup.load import BusyClock, StageLoad
from pipeline.keepup.meter import StreamMeter
from pipeline.keepup.status import StreamStatus


class Watched(Protocol):
    """One stream, as far as it is watched."""

    @property
    def busy(self) -> BusyClock:
        """Its share of decode's work."""

    @property
    def queue(self) -> BoundedQueue[Any]:
        """Its frames before inference."""

    @property
    def meter(self) -> StreamMeter:
        """What its stages report to."""


class Runs(Protocol):
    """What runs the model, as far as it is watched."""

    @property
    def slots(self) -> Sequence[Any]:
        """Places where batches are prepared and run."""

    @property
    def concurrent_runs(self) -> int:
        """Runs that go on at the same time now."""


class ProcessWatch:
    """The busy clocks of the shared stages, and the status of every stream. Thread-safe."""

    def __init__(self, window_seconds: float, runtime: Runs, *, cores: int) -> None:
        self.infer = BusyClock(window_seconds, workers=len(runtime.slots))
        """preprocess -> infer -> postprocess, in all slots."""
        self.runs = BusyClock(window_seconds, workers=runtime.concurrent_runs)
        """The model's runs alone: a runtime may run fewer at a time than it has slots."""
        self.publish = BusyClock(window_seconds)
        """track -> publish."""
        self._slots = len(runtime.slots)
        self._headroom = Headroom(window_seconds, cores)
        self._lock = threading.Lock()

    def use(self, runtime: Runs) -> None:
        """Count the workers that there are now: another runtime may have taken over, or run in another shape."""
        self.infer.workers = self._slots = len(runtime.slots)
        self.runs.workers = runtime.concurrent_runs

    def status(self, streams: Iterable[Watched], now: float) -> list[StreamStatus]:
        """Return how every stream is doing now, in their order."""
        shared = self._shared(now)
        statuses = [stream.meter.snapshot(now, self._loads(stream, now, shared)) for stream in streams]
        with self._lock:
            return self._headroom.update(statuses, shared, now)

    def _shared(self, now: float) -> list[float]:
        """Return how busy the slots, the model's runs and publishing are: the same for all streams."""
        return [busy.utilisation(now) for busy in (self.infer, self.runs, self.publish)]

    def _loads(self, stream: Watched, now: float, shared: Sequence[float]) -> Sequence[StageLoad]:
        infer, runs, publish = shared
        return (
            StageLoad("decode", stream.busy.utilisation(now), 0, 0, 1),
            StageLoad("infer", max(infer, runs), len(stream.queue), stream.queue.capacity, self._slots),
            StageLoad("publish", publish, 0, 0, 1),
        )
