"""How many of the configured streams keep up: runs more and more of them until pace is lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipeline.config.sections import Config, StreamSection
from pipeline.keepup.cause import busiest
from pipeline.keepup.ledger import LedgerSnapshot
from pipeline.keepup.settings import OVERLOAD_REASONS
from pipeline.keepup.status import StreamStatus
from pipeline.publish.messages import AgePercentiles
from pipeline.workers.open import Run, open_run

_OPEN_SECONDS = 30.0
_SETTLE_SECONDS = 2.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Step:
    """What so many streams amounted to."""

    streams: int
    keeps_up: bool
    why: str
    """What was lost or late; empty where pace was kept."""
    received_fps: float
    """All streams together."""
    published_fps: float
    age_seconds: AgePercentiles
    """Of the stream that was worst."""
    utilisation: dict[str, float]
    """Stage -> share of its time spent working, 0-1. Of decode, which has a thread a stream: the busiest."""
    limit: str
    """The stage that gives out first: the busiest, or the one with a full queue."""
    headroom_streams: float | None
    """What the running process estimated, on average over its streams."""


@dataclass(frozen=True, slots=True)
class Measuring:
    """How a ramp measures."""

    seconds: float = 5.0
    """Of each step, after settling."""
    deadline_seconds: float | None = None
    """Oldest that a published frame may be; None: as configured."""


def ramp(first: int, most: int, run: Callable[[int], Step]) -> list[Step]:
    """Run steps from ``first`` streams on, at most ``most``, until it is known how many keep up; return them in order.

    ``run`` measures so many streams (see ``measure``).
    """
    done: dict[int, Step] = {}
    streams = min(first, most)
    while streams not in done:
        done[streams] = run(streams)
        streams = _next(done, most)
    return [done[number] for number in sorted(done)]


def largest(steps: list[Step]) -> int:
    """Return the largest number of streams that kept up; 0 where none did."""
    return max((step.streams for step in steps if step.keeps_up), default=0)


def _next(done: dict[int, Step], most: int) -> int:
    """Return how many streams to try next: what the estimate says, then halving what lies between kept and lost."""
    kept = max((number for number, step in done.items() if step.keeps_up), default=0)
    lost = min((number for number, step in done.items() if not step.keeps_up and number > kept), default=None)
    if lost is not None and lost == kept + 1:
        return lost
    basis = done[kept or min(done)]
    guess = 0 if basis.headroom_streams is None else int(basis.streams + basis.headroom_streams)
    if lost is None:
        return min(most, max(min(guess, 4 * kept), kept + 1 + kept // 4))
    return guess if kept < guess < lost else (kept + lost) // 2


def measure(config: Config, streams: int, measuring: Measuring) -> Step:
    """Run so many of the configured streams, in turn, and judge whether all of them keep up."""
    with open_run(_copies(config, streams, measuring)) as pipeline:
        pipeline.start()
        _wait_until_all_publish(pipeline)
        time.sleep(_SETTLE_SECONDS)
        before, begun = pipeline.status(), time.monotonic()
        until = begun + measuring.seconds
        while time.monotonic() < until and pipeline.failure is None:
            time.sleep(_POLL_SECONDS)
            after = pipeline.status()
        seconds = time.monotonic() - begun
    return _judge(pipeline.config, before, after, seconds)


def _copies(config: Config, streams: int, measuring: Measuring) -> Config:
    """Return ``config`` with so many streams, paced as cameras; what they find is made into messages for nobody.

    The model sees them at full size: how many fit smaller is another question.
    """
    taken = [config.streams[number % len(config.streams)] for number in range(streams)]
    deadline = measuring.deadline_seconds
    keepup = config.keepup
    overload = config.overload.model_copy(update={"adapt": _full_size(config.overload.adapt)})
    if deadline is not None:
        overload = overload.model_copy(update={"deadline": deadline})
        keepup = keepup.model_copy(update={"max_age": deadline})
    return config.model_copy(
        update={
            "streams": [_paced(stream, number, deadline) for number, stream in enumerate(taken)],
            "dashboard": config.dashboard.model_copy(update={"listen": None, "stay": False}),
            "metrics": config.metrics.model_copy(update={"listen": None}),
            "publish": config.publish.model_copy(update={"sinks": []}),
            "overload": overload,
            "infer": config.infer.model_copy(update={"smaller": []}),
            "keepup": keepup.model_copy(update={"window": measuring.seconds}),
        }
    )


def _full_size(adapt: str | None) -> str | None:
    return "none" if adapt == "resolution" else adapt


def _paced(stream: StreamSection, number: int, deadline: float | None) -> StreamSection:
    camera = stream.url.partition(":")[0].lower() in ("rtsp", "rtsps", "camera")
    update: dict[str, object] = {"id": f"{number + 1}-{stream.id}"[:64], "policy": "drop_oldest"}
    update["adapt"] = _full_size(stream.adapt)
    if not camera:
        update |= {"realtime": True, "loop": not stream.url.startswith("pattern:")}
    if deadline is not None:
        update["deadline"] = deadline
    return stream.model_copy(update=update)


def _wait_until_all_publish(pipeline: Run) -> None:
    until = time.monotonic() + _OPEN_SECONDS
    while time.monotonic() < until and pipeline.failure is None:
        if all(status.ledger.published or status.state == "ended" for status in pipeline.status()):
            return
        time.sleep(_POLL_SECONDS)


def _judge(config: Config, before: list[StreamStatus], after: list[StreamStatus], seconds: float) -> Step:
    troubles = [
        trouble
        for old, new in zip(before, after, strict=True)
        if (trouble := _trouble(old, new, config.keepup.tolerance, config.keepup.max_age))
    ]
    loads = [{load.stage: load.utilisation for load in status.loads} for status in after]
    worst = max(after, key=lambda status: status.age_seconds.p95 or 0.0)
    limit = busiest(worst.loads) or max(worst.loads, key=lambda load: load.utilisation)
    estimates = [status.headroom_streams for status in after if status.headroom_streams is not None]
    return Step(
        streams=len(after),
        keeps_up=not troubles,
        why="; ".join(troubles[:1]),
        received_fps=sum(new.ledger.received - old.ledger.received for old, new in _pairs(before, after)) / seconds,
        published_fps=sum(new.ledger.published - old.ledger.published for old, new in _pairs(before, after)) / seconds,
        age_seconds=worst.age_seconds,
        utilisation={stage: max(load[stage] for load in loads) for stage in loads[0]},
        limit=limit.stage,
        headroom_streams=sum(estimates) / len(estimates) if estimates else None,
    )


def _pairs(before: list[StreamStatus], after: list[StreamStatus]) -> Iterator[tuple[StreamStatus, StreamStatus]]:
    return zip(before, after, strict=True)


def _trouble(old: StreamStatus, new: StreamStatus, tolerance: float, max_age: float) -> str:
    """Return why this stream did not keep up; empty where it did."""
    received = new.ledger.received - old.ledger.received
    if not received or new.state != "live":
        return f"{new.stream_id}: {new.last_error or 'delivered nothing'}"
    shed = _shed(new.ledger) - _shed(old.ledger)
    if shed > max(1, tolerance * received):
        return f"{new.stream_id}: {shed} of {received} frames lost"
    behind = received - shed - (new.ledger.published - old.ledger.published)
    if behind > max(2, tolerance * received):
        return f"{new.stream_id}: {behind} of {received} frames behind"
    late = new.age_seconds.p95
    if late is not None and late > max_age:
        return f"{new.stream_id}: age p95 {late:.2f} s, at most {max_age:.2f} s"
    return ""


def _shed(ledger: LedgerSnapshot) -> int:
    return sum(
        count for reasons in ledger.dropped.values() for reason, count in reasons.items() if reason in OVERLOAD_REASONS
    )
