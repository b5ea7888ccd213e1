"""A camera, its queue and a detector on a simulated clock: the truth that the meter is held against.

Frames arrive at scripted times, are decoded in no time, wait in the pipeline's own queue under its own policy, and are
worked on by so many workers. Everything that happens is known, and nothing depends on the machine.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipeline.bounded_queue import BoundedQueue
from pipeline.infer.terms import Terms, TimeToPublish
from pipeline.infer.waiting import Waiting
from pipeline.keepup.load import BusyClock, StageLoad
from pipeline.keepup.meter import StreamMeter
from pipeline.keepup.settings import KeepupSettings
from pipeline.keepup.status import StreamStatus


class Arrival(NamedTuple):
    """What the policy needs to know of a frame, in seconds of the meter's clock."""

    received_at: float
    captured_at: float
    epoch: int = 1


@dataclass
class Truth:
    """What really happened, and what the meter said meanwhile."""

    meter: StreamMeter
    received: int = 0
    published_at: list[float] = field(default_factory=list)
    dropped_at: list[float] = field(default_factory=list)
    ages: list[float] = field(default_factory=list)
    statuses: list[tuple[float, StreamStatus]] = field(default_factory=list)

    @property
    def last(self) -> StreamStatus:
        return self.statuses[-1][1]

    def changes(self, since: float = 0.0) -> list[tuple[float, str]]:
        """``(seconds, verdict)`` for every change of the shown verdict from ``since`` on, the first one included."""
        found: list[tuple[float, str]] = []
        for at, status in self.statuses:
            if at >= since and (not found or found[-1][1] != status.verdict):
                found.append((at, status.verdict))
        return found

    def verdicts(self, since: float = 0.0) -> set[str]:
        return {verdict for _, verdict in self.changes(since)}

    def when(self, verdict: str, since: float = 0.0) -> float:
        """When ``verdict`` was first shown from ``since`` on."""
        return next(at for at, status in self.statuses if at >= since and status.verdict == verdict)


def paced(fps: float, until: float, start: float = 0.0, jitter: Callable[[], float] | None = None) -> Iterator[float]:
    """Arrival times of a camera of ``fps`` from ``start`` to ``until``; ``jitter`` delays each by so many seconds."""
    last, count = start, 0
    while start + count / fps < until:
        last = max(last, start + count / fps + (jitter() if jitter else 0.0))
        yield last
        count += 1


def simulate(
    arrivals: Iterable[float],
    service: Callable[[float], float],
    *,
    until: float,
    settings: KeepupSettings | None = None,
    queue_frames: int = 8,
    workers: int = 1,
    status_every: float = 0.25,
    epoch: float = 0.0,
    transport: Callable[[float], float] = lambda _: 0.0,
    sheds: bool = True,
) -> Truth:
    """Run it. ``service(now)`` is the detector's time for a frame; ``transport(now)`` a frame's age when it arrives.

    ``epoch`` moves the monotonic clock's origin: nothing may depend on it. Without ``sheds`` frames are taken in order,
    however long the queue stands.
    """
    run = _Run(settings or KeepupSettings(), service, transport, queue_frames, workers, epoch, sheds)
    for at in arrivals:
        run.plan(at, run.frame, at)
    for tick in range(1, int(until / status_every) + 1):
        run.plan(tick * status_every, run.status)
    run.until(until)
    return run.truth


class _Run:
    def __init__(
        self,
        settings: KeepupSettings,
        service: Callable[[float], float],
        transport: Callable[[float], float],
        queue_frames: int,
        workers: int,
        epoch: float,
        sheds: bool,
    ) -> None:
        self.meter = StreamMeter("sim", settings, live=True)
        self.truth = Truth(self.meter)
        self.busy = BusyClock(settings.window_seconds, workers=workers)
        self.service, self.transport = service, transport
        self.workers, self.epoch, self.sheds = workers, epoch, sheds
        self.queue: BoundedQueue[Any] = BoundedQueue(queue_frames, "drop_oldest")
        self.waiting = Waiting(self.queue, Terms(), TimeToPublish())
        self.max_age_seconds = settings.max_age_seconds
        self.free = workers
        self.order = itertools.count()
        self.events: list[tuple[float, int, Callable[..., None], tuple[float, ...]]] = []
        self.meter.connection("live", epoch)

    def plan(self, at: float, action: Callable[..., None], *details: float) -> None:
        heapq.heappush(self.events, (at, next(self.order), action, details))

    def until(self, end: float) -> None:
        while self.events and self.events[0][0] <= end:
            now, _, action, details = heapq.heappop(self.events)
            action(now, *details)
            while self.free and len(self.queue):
                taken = self.take(self.epoch + now)
                if taken is not None:
                    self.free -= 1
                    self.meter.ledger.move("queue", "infer")
                    self.plan(now + self.service(now), self.done, taken.received_at - self.epoch, now)

    def take(self, at: float) -> Arrival | None:
        if not self.sheds:
            in_order: Arrival | None = self.queue.pop()
            return in_order
        popped = self.waiting.pop(at, self.max_age_seconds)
        for _, reason in popped.given_up:
            self.drop("infer", reason, at)
        return popped.frame  # type: ignore[return-value]

    def drop(self, stage: str, reason: str, at: float) -> None:
        self.meter.dropped("queue", stage, reason, at)
        self.truth.dropped_at.append(at - self.epoch)

    def frame(self, now: float, arrived: float) -> None:
        self.truth.received += 1
        self.meter.arrived(self.epoch + now)
        self.meter.ledger.move("decode", "queue")
        at = self.epoch + now
        for _ in self.queue.put(Arrival(at, at - self.transport(now))):
            self.drop("decode", "queue_full", at)

    def done(self, now: float, arrived: float, started: float) -> None:
        self.free += 1
        self.busy.add(self.epoch + started, self.epoch + now)
        age = now - arrived + self.transport(arrived)
        self.meter.ledger.move("infer", "publish")
        self.meter.published(
            self.epoch + now,
            age_seconds=age,
            wait_seconds=started - arrived,
            service_seconds=now - started,
            capture_clock="arrival",
        )
        self.truth.published_at.append(now)
        self.truth.ages.append(age)

    def status(self, now: float) -> None:
        loads = [
            StageLoad("decode", 0.1, 0, 0),
            StageLoad(
                "infer", self.busy.utilisation(self.epoch + now), len(self.queue), self.queue.capacity, self.workers
            ),
            StageLoad("publish", 0.02, 0, 64),
        ]
        self.truth.statuses.append((now, self.meter.snapshot(self.epoch + now, loads)))
