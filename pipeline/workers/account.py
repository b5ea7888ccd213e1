"""One stream over all lives of its worker: what the parent knows of it, and what is lost with a worker.

Guaranteed: ``published`` is exact, to the message, because the parent counts what it hands on. Every frame counts that
the worker reported (twice a second), or that came before one whose result was handed on; those of them that were
neither published nor dropped when the worker died are dropped as ``worker: worker_lost``. What the worker received in
its last moment and told nobody of is in no sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pipeline.config.sections import KeepupSection, StreamSection
from pipeline.keepup.ledger import LedgerSnapshot
from pipeline.keepup.meter import StreamMeter
from pipeline.keepup.settings import KeepupSettings
from pipeline.keepup.status import LifetimeFigures, StreamStatus, final_verdict
from pipeline.part import Past
from pipeline.plan import StreamPlan
from pipeline.publish.messages import AgePercentiles, Verdict
from pipeline.publish.sink import Encoded
from pipeline.workers.notes import Times

STAGE, REASON = "worker", "worker_lost"

Dropped = dict[str, dict[str, int]]

_NOTHING = LedgerSnapshot(0, 0, {}, {})
_NO_AGES = AgePercentiles(None, None, None, None)


class Account:
    """Not thread-safe: ``forward`` is for the thread that publishes, the rest under the group's lock."""

    def __init__(self, plan: StreamPlan, keepup: KeepupSection, worker: int, past: Past) -> None:
        """``past``: what a stream of that name left behind."""
        self.plan = plan
        self.worker = worker
        self.paused = False
        self.leaving = False
        """It was asked to go."""
        self.failed = False
        """It was given up."""
        self._keepup = keepup
        self._past = past
        self._sequence, self._epoch = past.sequence, past.epoch
        self._forwarded = 0
        self._last_index = past.frames - 1
        self._earlier = _NOTHING
        """Of the lives that are over."""
        self._earlier_times: list[Times] = []
        self._lives_lost = 0
        self._earlier_reconnects = 0
        self._earlier_seconds = 0.0
        self._lost_at: float | None = None
        self._cause = ""
        self._status = StreamMeter(plan.stream_id, self._settings, live=plan.live).snapshot(0.0)

    @property
    def section(self) -> StreamSection:
        """How the stream is configured, with what was changed since."""
        return self.plan.section

    @property
    def ended(self) -> bool:
        """Whether nothing will come any more."""
        return self._status.state == "ended"

    @property
    def past(self) -> Past:
        """Where another life has to go on."""
        return Past(self._sequence, self._epoch, self._past.frames + self._received())

    def forward(self, message: Encoded) -> None:
        """A message of this stream was handed on."""
        self._forwarded += 1
        self._sequence, self._last_index = message.sequence, message.frame_index
        if message.epoch > self._epoch:
            self._epoch = message.epoch

    def report(self, status: StreamStatus, *, failing: bool = False) -> None:
        """Its worker says how it is doing. ``failing``: streams of it only end because a stage failed."""
        if failing:
            status = replace(status, state=self._status.state, verdict=self._status.verdict)
        self._status = status
        self._lost_at = None

    def lose(self, cause: str, now: float) -> None:
        """Its worker is gone: what was under way is dropped. ``cause`` is for people."""
        before = self._status.ledger
        published = max(self._forwarded, before.published)
        received = max(self._received(), published + before.dropped_total)
        lost = received - published - before.dropped_total
        past = self.past
        self._past = Past(past.sequence, past.epoch, self._past.frames + received)
        dropped = _sum(self._earlier.dropped, before.dropped, {STAGE: {REASON: lost}} if lost else {})
        self._earlier = LedgerSnapshot(
            self._earlier.received + received, self._earlier.published + published, dropped, {}
        )
        self._lives_lost += 1
        self._earlier_reconnects += self._status.reconnects
        self._earlier_seconds += self._status.lifetime.seconds or 0.0
        self._forwarded, self._last_index = 0, self._past.frames - 1
        self._lost_at = now if self._lost_at is None else self._lost_at
        self._status = replace(self._status, ledger=_NOTHING, loads=(), reconnects=0)
        self.say(cause)

    def say(self, cause: str) -> None:
        """Say anew why it is not delivering."""
        self._cause = cause

    def give_up(self, cause: str, *, failed: bool) -> None:
        """It will not be played again; ``failed``: though it should."""
        self.failed = failed
        self.say(cause)
        self._status = replace(self._status, state="ended", verdict="ended")

    def leave(self) -> None:
        """It was removed, and its last frame has left."""
        self._status = replace(self._status, state="ended", verdict="ended", cause="")

    def removed(self, ledger: LedgerSnapshot) -> LedgerSnapshot:
        """Return what a removed stream amounted to over all its lives."""
        self._status = replace(self._status, ledger=ledger)
        return self._ledger()

    def status(self, now: float) -> StreamStatus:
        """Return how the stream is doing, all lives counted."""
        ledger = self._ledger()
        status = replace(self._status, ledger=ledger, reconnects=self._reconnects())
        if self._lost_at is not None:
            status = self._without_worker(status, now)
        if self._lives_lost:
            lifetime = self._lifetime(ledger, status.lifetime)
            final = final_verdict(
                ledger, lifetime.age_seconds.p95, self._settings, live=self.plan.live, last_error=status.last_error
            )
            status = replace(status, lifetime=lifetime, final=final)
        return status

    def _without_worker(self, status: StreamStatus, now: float) -> StreamStatus:
        assert self._lost_at is not None
        if status.state != "ended":
            down = now - self._lost_at
            verdict: Verdict = "offline" if down >= self._settings.offline_seconds else "reconnecting"
            status = replace(status, state="waiting", verdict=verdict, verdict_since=self._lost_at)
        return replace(
            status,
            cause=self._cause,
            cause_stage=STAGE,
            last_error=self._cause,
            cadence_fps=None,
            published_fps=None,
            published_share=None,
            inferred_every=None,
            headroom_streams=None,
            age_seconds=_NO_AGES,
            wait_seconds_p95=None,
            service_seconds_p95=None,
        )

    @property
    def _settings(self) -> KeepupSettings:
        deadline, every = self.plan.terms.deadline, self.plan.settled.every or 1
        return KeepupSettings.from_section(self._keepup, deadline.seconds if deadline else None, every)

    def _received(self) -> int:
        """Return how many frames this life is known to have received."""
        return max(self._status.ledger.received, self._last_index + 1 - self._past.frames)

    def _ledger(self) -> LedgerSnapshot:
        life, earlier = self._status.ledger, self._earlier
        if not self._lives_lost:
            return life
        return LedgerSnapshot(
            earlier.received + life.received,
            earlier.published + life.published,
            _sum(earlier.dropped, life.dropped),
            life.in_flight,
        )

    def _reconnects(self) -> int:
        """A worker's first connection is the first of all only in its first life."""
        anew = self._lives_lost - (0 if self._status.ledger.received else 1)
        return self._earlier_reconnects + self._status.reconnects + max(0, anew)

    def _lifetime(self, ledger: LedgerSnapshot, latest: LifetimeFigures) -> LifetimeFigures:
        """Rates are of all lives; ages and waits, which are percentiles, of the latest."""
        seconds = self._earlier_seconds + (latest.seconds or 0.0 if self._lost_at is None else 0.0)
        if not seconds:
            return latest
        return replace(
            latest, seconds=seconds, received_fps=ledger.received / seconds, published_fps=ledger.published / seconds
        )


def _sum(*several: Mapping[str, Mapping[str, int]]) -> Dropped:
    total: Dropped = {}
    for dropped in several:
        for stage, reasons in dropped.items():
            here = total.setdefault(stage, {})
            for reason, count in reasons.items():
                here[reason] = here.get(reason, 0) + count
    return total
