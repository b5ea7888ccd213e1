"""A camera, a bounded queue and a detector on a simulated clock: the truth that the meter is held against.

Frames arrive at scripted times, are decoded in no time, wait in a queue that drops its oldest, and are worked on by so
many workers. Everything that happens is known, and nothing depends on the machine.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from pipeline.keepup.load import BusyClock, StageLoad
from pipeline.keepup.meter import StreamMeter
from pipeline.keepup.settings import KeepupSettings
from pipeline.keepup.status import StreamStatus


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
) -> Truth:
    """Run it. ``service(now)`` is the detector's time for a frame; ``transport(now)`` a frame's age when it arrives.

    ``epoch`` moves the monotonic clock's origin: nothing may depend on it.
    """
    settings = settings or KeepupSettings()
    meter = StreamMeter("sim", settings, live=True)
    truth = Truth(meter)
    busy = BusyClock(settings.window_seconds, workers=workers)
    waiting: deque[float] = deque()
    begun_for: dict[int, float] = {}
    free = workers
    order = iter(range(1 << 40))
    events: list[tuple[float, int, str, float]] = [(at, next(order), "frame", at) for at in arrivals if at < until]
    events += [(i * status_every, next(order), "status", 0.0) for i in range(1, int(until / status_every) + 1)]
    heapq.heapify(events)
    meter.connection("live", epoch)
    while events:
        now, number, kind, arrived = heapq.heappop(events)
        if now > until:
            break
        if kind == "frame":
            truth.received += 1
            meter.arrived(epoch + now)
            meter.ledger.move("decode", "queue")
            if len(waiting) == queue_frames:
                waiting.popleft()
                meter.dropped("queue", "decode", "queue_full", epoch + now)
                truth.dropped_at.append(now)
            waiting.append(now)
        elif kind == "done":
            start = arrived
            arrived = begun_for.pop(number)
            free += 1
            busy.add(epoch + start, epoch + now)
            age = now - arrived + transport(arrived)
            meter.ledger.move("infer", "publish")
            meter.published(
                epoch + now,
                age_seconds=age,
                wait_seconds=start - arrived,
                service_seconds=now - start,
                capture_clock="arrival",
            )
            truth.published_at.append(now)
            truth.ages.append(age)
        else:
            loads = [
                StageLoad("decode", 0.1, 0, 0),
                StageLoad("infer", busy.utilisation(epoch + now), len(waiting), queue_frames, workers),
                StageLoad("publish", 0.02, 0, 64),
            ]
            truth.statuses.append((now, meter.snapshot(epoch + now, loads)))
        while free and waiting:
            free -= 1
            begun = waiting.popleft()
            meter.ledger.move("queue", "infer")
            number = next(order)
            begun_for[number] = begun
            heapq.heappush(events, (now + service(now), number, "done", now))
    return truth
