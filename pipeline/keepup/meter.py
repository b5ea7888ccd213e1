"""One stream's meter: stages report to it while frames pass, and it says what that amounts to."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from pipeline.errors import Cause
from pipeline.frame import CaptureClock
from pipeline.keepup import cause as causes
from pipeline.keepup.cadence import Cadence
from pipeline.keepup.cause import ALL_IS_WELL, CauseLine, Evidence
from pipeline.keepup.connection import Connection, State
from pipeline.keepup.histogram import Histogram, merged
from pipeline.keepup.ledger import Ledger, LedgerSnapshot, Place
from pipeline.keepup.load import StageLoad
from pipeline.keepup.picture_watch import PictureState
from pipeline.keepup.settings import OVERLOAD_REASONS, KeepupSettings
from pipeline.keepup.status import LifetimeFigures, StreamStatus, final_verdict
from pipeline.keepup.tally import SubWindow, Tally
from pipeline.keepup.verdict import Pace
from pipeline.publish.messages import AgePercentiles, Verdict


class StreamMeter:
    """What one stream's stages report while frames pass, and what it amounts to.

    Thread-safe, and reads no clock: every time is given, in monotonic seconds. ``live`` streams are judged by whether
    they keep the camera's pace; others (files that wait for the pipeline) by whether frames flow at all.
    """

    def __init__(self, stream_id: str, settings: KeepupSettings, *, live: bool) -> None:
        self.stream_id = stream_id
        self.live = live
        self.ledger = Ledger()
        """Moves between places are reported here directly; arrivals, drops and publishing through the meter."""
        self._settings = settings
        self._lock = threading.Lock()
        self._connection = Connection(settings.offline_seconds)
        self._cadence = Cadence(settings.window_seconds, settings.stall_seconds)
        self._usual = Histogram()
        self._tally = Tally(settings)
        self._pace = Pace(settings)
        self._judge_at = float("-inf")
        self._capture_clock: CaptureClock | None = None
        self._input_size: tuple[int, int] | None = None
        self._first_ever: float | None = None
        self._last_ever = self._last_arrival = 0.0
        self._first_arrival: float | None = None
        self._starting = True
        self._open = 0
        self._waiting_since: float | None = None
        """Since when frames come in and none is published."""
        self._last_drop = ("", "")
        self._pictures: PictureState = ""
        self._shown: tuple[Verdict, float] = ("starting", float("-inf"))

    def connection(self, state: State, now: float, *, cause: Cause | None = None, error: str = "") -> None:
        """The stream's connection changed. ``error`` must be safe to print (redacted). Changes the verdict at once."""
        with self._lock:
            if self._connection.report(state, now, cause=cause, error=error):
                # Another connection may be another picture size and rate: what was measured before says nothing now.
                self._cadence.restart()
                self._tally.restart()
                self._pace = Pace(self._settings)
                self._first_arrival = None
                self._starting = True
                self._waiting_since = now if self._open else None
                self._pictures = ""
            self._judge(now)

    def judge_by(self, settings: KeepupSettings) -> None:
        """Judge the pace by other settings from now on; its patience starts anew. The window stays as it is."""
        with self._lock:
            self._settings = settings
            self._pace = Pace(settings)

    def pictured(self, state: PictureState, now: float) -> None:
        """What the connection's pictures show changed. Changes the verdict at once: whoever reports it was patient."""
        with self._lock:
            self._pictures = state
            self._judge(now)

    def arrived(self, received_at: float) -> None:
        """One frame was received. Enters it into the ledger, too: call once a frame, and not ``ledger.receive``."""
        self.ledger.receive()
        with self._lock:
            if self._first_arrival is None:
                self._first_arrival = received_at
                if self._first_ever is None:
                    self._first_ever = received_at
            self._last_ever = self._last_arrival = received_at
            self._open += 1
            if self._waiting_since is None:
                self._waiting_since = received_at
            self._cadence.arrived(received_at)
            self._tally.received(received_at)
            if received_at >= self._judge_at:
                self._judge(received_at)

    def dropped(self, place: Place, stage: str, reason: str, now: float, frames: int = 1) -> None:
        """Frames at ``place`` were given up by ``stage``. Enters them into the ledger; raises if they are not there.

        Reasons in ``OVERLOAD_REASONS`` count against the pace; others excuse the frame.
        """
        self.ledger.drop(place, stage, reason, frames)
        with self._lock:
            if reason in OVERLOAD_REASONS:
                self._tally.shed(now, frames)
            elif reason == "stride":
                self._tally.strided(now, frames)
            else:
                self._tally.excused(now, frames)
            self._open -= frames
            self._last_drop = (stage, reason)
            if now >= self._judge_at:
                self._judge(now)

    def published(
        self,
        now: float,
        *,
        age_seconds: float,
        wait_seconds: float,
        service_seconds: float,
        capture_clock: CaptureClock,
        carried: bool = False,
        input_size: tuple[int, int] | None = None,
    ) -> None:
        """One frame's result went out, ``age_seconds`` after capture. Enters it into the ledger, too.

        ``wait_seconds`` is the time in queues, ``service_seconds`` the time being worked on. ``carried``: the model did
        not see it, and its tracks were carried to it. ``input_size``: width and height at which the model saw it, None
        for the size that was asked for.
        """
        self.ledger.publish()
        with self._lock:
            self._tally.published(now, age_seconds, wait_seconds, service_seconds, carried=carried)
            self._capture_clock = capture_clock
            if not carried:
                self._input_size = input_size or self._settings.input_size
            self._last_ever = now
            self._open -= 1
            self._waiting_since = now if self._open else None
            if now >= self._judge_at:
                self._judge(now)

    def snapshot(self, now: float, loads: Sequence[StageLoad] = ()) -> StreamStatus:
        """Return how the stream is doing. ``loads``: the stages it passes, in order, as busy as they are now."""
        counts = self.ledger.snapshot()
        with self._lock:
            self._judge(now)
            slots = self._tally.window(now)
            ages = merged(slot.ages for slot in slots)
            evidence = self._evidence(now, slots, ages)
            line = self._cause(now, loads, evidence)
            verdict, since = self._shown
            lifetime = self._lifetime(counts, slots)
            return StreamStatus(
                stream_id=self.stream_id,
                live=self.live,
                state=self._connection.state,
                verdict=verdict,
                verdict_since=since,
                cause=line.text,
                cause_stage=line.stage,
                cadence_fps=evidence.cadence_fps,
                wanted_share=self._tally.wanted_share(slots, self._settings.every),
                published_fps=evidence.published_fps,
                published_share=self._tally.published_share(slots),
                inferred_every=evidence.inferred_every,
                age_seconds=_percentiles(ages),
                wait_seconds_p95=evidence.wait_p95,
                service_seconds_p95=evidence.service_p95,
                capture_clock=self._capture_clock,
                reconnects=self._connection.reconnects,
                last_error=self._connection.last_error,
                ledger=counts,
                loads=tuple(loads),
                lifetime=lifetime,
                input_size=self._input_size,
                final=final_verdict(
                    counts,
                    lifetime.age_seconds.p95,
                    self._settings,
                    live=self.live,
                    last_error=self._connection.last_error,
                ),
            )

    def _judge(self, now: float) -> None:
        self._judge_at = now + self._tally.part_seconds
        verdict = self._connection.verdict(now)
        if verdict is None:
            cadence = self._cadence.fps(now)
            if cadence:
                self._usual.record(1.0 / cadence)
            stall = self._stall((), now)
            measurement = self._tally.measure(now, cadence, self._first_arrival or 0.0) if self.live else None
            verdict = self._pace.update(measurement, stalled=stall is not None, now=now)
            self._starting = self._starting and self._is_starting(now, cadence)
            if self._starting and verdict != "stalled":
                verdict = "starting"
            if self._pictures and verdict != "stalled":
                verdict = self._pictures
        if verdict != self._shown[0]:
            self._shown = (verdict, now)

    def _is_starting(self, now: float, cadence: float | None) -> bool:
        if not self.live:
            return self._tally.last_published is None
        if self._first_arrival is None or cadence is None:
            return True
        seconds = now - self._first_arrival
        patience, window = self._settings.hysteresis_seconds, self._settings.window_seconds
        if seconds < patience or (self._pace.undecided and seconds < window + patience):
            return True
        return self._tally.last_published is None and seconds < window

    def _stall(self, loads: Sequence[StageLoad], now: float) -> CauseLine | None:
        """Return why nothing moves, or None while frames flow."""
        bound = self._cadence.stall_bound()
        if self._waiting_since is not None:
            stuck = now - self._waiting_since
            # A model may take seconds a frame and still be at work, and overloaded streams wait for their turn.
            patience = max(4 * self._tally.longest_service, 4 * self._tally.usual_gap)
            if stuck > max(bound if self.live else self._settings.window_seconds, patience):
                return (
                    causes.stuck_cause(loads, stuck) if self._open else causes.given_up_cause(*self._last_drop, stuck)
                )
            if not self.live and self._open:
                return None
        silent = self._cadence.silence_seconds(now)
        if silent is None:
            since = self._connection.live_since
            silent = 0.0 if since is None else now - since
        if not self.live and self._tally.last_published is not None:
            # A source that waits for us delivers nothing while we work.
            silent = min(silent, now - self._tally.last_published)
        return causes.silent_cause(silent, live=self.live) if silent > bound else None

    def _evidence(self, now: float, slots: Sequence[SubWindow], ages: Histogram) -> Evidence:
        usual_interval = self._usual.percentile(50)
        return Evidence(
            cadence_fps=self._cadence.fps(now),
            usual_fps=1.0 / usual_interval if usual_interval else None,
            published_fps=self._tally.published_fps(slots, now, self._first_arrival),
            age_p95=ages.percentile(95),
            wait_p95=merged(slot.waits for slot in slots).percentile(95),
            service_p95=merged(slot.services for slot in slots).percentile(95),
            inferred_every=self._tally.inferred_every(slots),
            input_size=self._input_size,
        )

    def _cause(self, now: float, loads: Sequence[StageLoad], evidence: Evidence) -> CauseLine:
        verdict = self._shown[0]
        if self._connection.state != "live":
            return self._connection.cause()
        if verdict == "stalled":
            return self._stall(loads, now) or CauseLine("", "frames flow again, after a stall")
        if verdict in ("frozen", "black"):
            return causes.picture_cause(self._pictures)
        if verdict in ("falling_behind", "overloaded"):
            return causes.pace_cause(loads, evidence, self._settings)
        if verdict == "keeping_up" and self.live:
            settings = self._settings
            takes = causes.stride_cause(evidence, settings) or causes.resolution_cause(evidence, settings)
            return takes or causes.slow_camera_cause(evidence)
        return ALL_IS_WELL

    def _lifetime(self, counts: LedgerSnapshot, slots: Sequence[SubWindow]) -> LifetimeFigures:
        seconds = arriving = None
        if self._first_ever is not None:
            seconds, arriving = self._last_ever - self._first_ever, self._last_arrival - self._first_ever
        ages, waits, services = self._tally.lifetime(slots)
        return LifetimeFigures(
            seconds=seconds,
            received_fps=(counts.received - 1) / arriving if arriving else None,
            published_fps=counts.published / seconds if seconds else None,
            age_seconds=_percentiles(ages),
            wait_seconds_p95=waits.percentile(95),
            service_seconds_p95=services.percentile(95),
        )


def _percentiles(histogram: Histogram) -> AgePercentiles:
    p50, p95, p99 = histogram.percentiles((50, 95, 99))
    return AgePercentiles(p50=p50, p95=p95, p99=p99, max=histogram.largest if histogram.count else None)
