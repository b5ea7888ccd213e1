"""What a stream's meter amounts to: the figures that status messages, the live table and the summary show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.frame import CaptureClock
from pipeline.keepup.connection import State
from pipeline.keepup.ledger import LedgerSnapshot
from pipeline.keepup.load import StageLoad
from pipeline.keepup.settings import OVERLOAD_REASONS, KeepupSettings
from pipeline.keepup.verdict import SEVERITY
from pipeline.publish.messages import AgePercentiles, Verdict


@dataclass(frozen=True, slots=True)
class LifetimeFigures:
    """The stream's whole life, for the summary."""

    seconds: float | None
    """From the first arrival to the last publishing (or arrival); None before the first frame."""
    received_fps: float | None
    published_fps: float | None
    age_seconds: AgePercentiles
    wait_seconds_p95: float | None
    service_seconds_p95: float | None


@dataclass(frozen=True, slots=True)
class FinalVerdict:
    """Whether a stream kept pace over its whole life."""

    verdict: Verdict
    """"keeping_up", "falling_behind" (late), "overloaded" (frames lost to overload), "stalled" (frames came, not one
    was published) or "offline" (no frame came)."""
    cause: str
    """The evidence, one line; empty for "keeping_up"."""

    @property
    def kept_pace(self) -> bool:
        """What ``--require-pace`` asks for."""
        return self.verdict == "keeping_up"


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """One stream at one moment. Rates, ages, waits and service times are of the window, unless they say otherwise."""

    stream_id: str
    live: bool
    state: State
    verdict: Verdict
    verdict_since: float
    """Monotonic seconds since when the verdict is shown."""
    cause: str
    """The stage in the way and the evidence, one line; empty while all is well."""
    cause_stage: str
    """The stage in the way, "camera" for what lies before us, or empty."""
    cadence_fps: float | None
    wanted_share: float
    """Share of the frames received that are meant to be published, 0-1: all but damaged ones, and those that a limited
    rate or a stride leaves out."""
    published_fps: float | None
    published_share: float | None
    """Keep-up, 0-1: of the frames whose fate was decided over the window, or that a growing backlog owes, the share
    that was published. Frames dropped for other reasons than overload are left out."""
    inferred_every: float | None
    """Frames for each one that the model saw; None where it saw none."""
    age_seconds: AgePercentiles
    wait_seconds_p95: float | None
    service_seconds_p95: float | None
    capture_clock: CaptureClock | None
    reconnects: int
    last_error: str
    ledger: LedgerSnapshot
    loads: tuple[StageLoad, ...]
    lifetime: LifetimeFigures
    final: FinalVerdict
    """The verdict on the life so far; after the end, the verdict."""
    headroom_streams: float | None = None
    """How many more such cameras would fit; below 0: so many too many. None while unknown, and beside files."""
    input_size: tuple[int, int] | None = None
    """Width and height, in pixels, at which the model saw its last frame; None before the first."""

    @property
    def wanted_fps(self) -> float:
        """Frames a second that are meant to be published; 0 while the cadence is unknown."""
        return (self.cadence_fps or 0.0) * self.wanted_share


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """The process is as well as its worst stream."""

    verdict: Verdict
    stream_id: str
    """The worst stream; empty without streams."""
    cause: str
    cause_stage: str
    headroom_streams: float | None = None
    """The smallest of the streams'."""


def process_status(streams: Iterable[StreamStatus]) -> ProcessStatus:
    """Return the worst verdict with its cause; among equally bad streams, the one that publishes the smallest share."""
    statuses = list(streams)
    worst = max(statuses, key=_badness, default=None)
    if worst is None:
        return ProcessStatus("starting", "", "", "")
    known = [status.headroom_streams for status in statuses if status.headroom_streams is not None]
    return ProcessStatus(worst.verdict, worst.stream_id, worst.cause, worst.cause_stage, min(known, default=None))


def final_verdict(
    ledger: LedgerSnapshot, age_p95: float | None, settings: KeepupSettings, *, live: bool, last_error: str = ""
) -> FinalVerdict:
    """Judge a whole life by what happened to its frames. Frames dropped for other reasons than overload are excused."""
    if ledger.received == 0:
        return FinalVerdict("offline", last_error or "no frame was received")
    shed_by = {
        stage: sum(count for reason, count in reasons.items() if reason in OVERLOAD_REASONS)
        for stage, reasons in ledger.dropped.items()
    }
    shed = sum(shed_by.values())
    due = ledger.received - (ledger.dropped_total - shed)
    if shed > settings.tolerance * due:
        where = max(shed_by, key=lambda stage: shed_by[stage])
        lost = f"{shed} of {due} frames lost to overload ({shed / due:.1%}), most at {where}"
        return FinalVerdict("overloaded", lost.replace("%", " %"))
    if live and age_p95 is not None and age_p95 > settings.max_age_seconds:
        return FinalVerdict("falling_behind", f"age p95 {age_p95:.2f} s, at most {settings.max_age_seconds:.2f} s")
    if ledger.published == 0:
        where = ", ".join(
            f"{count} {reason} at {at}" for at, why in ledger.dropped.items() for reason, count in why.items()
        )
        return FinalVerdict(
            "stalled", f"none of {ledger.received} frames was published" + (f": {where}" if where else "")
        )
    left = ledger.in_flight_total
    if live and left > max(settings.tolerance * due, _IN_FLIGHT_SLACK):
        return FinalVerdict("falling_behind", f"{left} of {due} frames not published yet")
    return FinalVerdict("keeping_up", "")


_IN_FLIGHT_SLACK = 32
"""Frames that queues and batches may hold at any moment without being a debt."""


def _badness(status: StreamStatus) -> tuple[int, float]:
    share = status.published_share if status.published_share is not None else 1.0
    # A verdict that this table does not know yet is treated as the worst, so that it cannot hide.
    place = SEVERITY.index(status.verdict) if status.verdict in SEVERITY else len(SEVERITY)
    return place, -share
