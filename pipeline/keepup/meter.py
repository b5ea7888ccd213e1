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
from pipeline.keepup.settings import LONG_WINDOWS, OVERLOAD_REASONS, KeepupSettings
from pipeline.keepup.status import LifetimeFigures, StreamStatus, final_verdict
from pipeline.keepup.verdict import Measurement, Pace, age_growth
from pipeline.keepup.window import Ring
from pipeline.publish.messages import AgePercentiles, Verdict


class _Slot:
    """What happened in one sub-window."""

    __slots__ = (
        "ages",
        "excused",
        "late",
        "nearly_late",
        "published",
        "published_before",
        "received",
        "services",
        "shed",
        "shed_first",
        "shed_last",
        "waits",
    )

    def __init__(self, published_before: float | None) -> None:
        self.published_before = published_before
        """When the last frame before this sub-window was published."""
        self.received = self.published = self.shed = self.excused = 0
        self.late = self.nearly_late = 0
        self.shed_first = self.shed_last = 0.0
        self.ages = Histogram()
        self.waits = Histogram()
        self.services = Histogram()


class _LongSlot:
    __slots__ = ("due", "shed")

    def __init__(self) -> None:
        self.due = self.shed = 0


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
        self._last_published: float | None = None
        self._ring: Ring[_Slot] = Ring(settings.window_seconds, lambda: _Slot(self._last_published), retire=self._keep)
        self._long_ring: Ring[_LongSlot] = Ring(LONG_WINDOWS * settings.window_seconds, _LongSlot)
        self._pace = Pace(settings)
        self._judge_at = float("-inf")
        self._ages, self._waits, self._services = Histogram(), Histogram(), Histogram()
        self._longest_service = 0.0
        self._capture_clock: CaptureClock | None = None
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
                self._ring.clear()
                self._long_ring.clear()
                self._pace = Pace(self._settings)
                self._first_arrival = None
                self._starting = True
                self._last_published = None
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
            self._ring.at(received_at).received += 1
            self._long_ring.at(received_at).due += 1
            if received_at >= self._judge_at:
                self._judge(received_at)

    def dropped(self, place: Place, stage: str, reason: str, now: float, frames: int = 1) -> None:
        """Frames at ``place`` were given up by ``stage``. Enters them into the ledger; raises if they are not there.

        Reasons in ``OVERLOAD_REASONS`` count against the pace; others excuse the frame.
        """
        self.ledger.drop(place, stage, reason, frames)
        with self._lock:
            slot = self._ring.at(now)
            if reason in OVERLOAD_REASONS:
                if not slot.shed:
                    slot.shed_first = now
                slot.shed += frames
                slot.shed_last = now
                self._long_ring.at(now).shed += frames
            else:
                slot.excused += frames
                self._long_ring.at(now).due -= frames
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
    ) -> None:
        """One frame's result went out, ``age_seconds`` after capture. Enters it into the ledger, too.

        ``wait_seconds`` is the time in queues, ``service_seconds`` the time being worked on.
        """
        self.ledger.publish()
        with self._lock:
            slot = self._ring.at(now)
            slot.published += 1
            limit = self._settings.max_age_seconds
            if age_seconds > 0.9 * limit:
                slot.nearly_late += 1
                slot.late += age_seconds > limit
            slot.ages.record(age_seconds)
            slot.waits.record(wait_seconds)
            slot.services.record(service_seconds)
            if service_seconds > self._longest_service:
                self._longest_service = service_seconds
            self._capture_clock = capture_clock
            self._last_published = self._last_ever = now
            self._open -= 1
            self._waiting_since = now if self._open else None
            if now >= self._judge_at:
                self._judge(now)

    def snapshot(self, now: float, loads: Sequence[StageLoad] = ()) -> StreamStatus:
        """Return how the stream is doing. ``loads``: the stages it passes, in order, as busy as they are now."""
        counts = self.ledger.snapshot()
        with self._lock:
            self._judge(now)
            slots = [slot for _, slot in self._ring.recent(now)]
            ages = merged(slot.ages for slot in slots)
            evidence = self._evidence(now, slots, ages)
            line = self._cause(now, loads, evidence)
            due = sum(slot.received - slot.excused for slot in slots)
            published = sum(slot.published for slot in slots)
            verdict, since = self._shown
            lifetime = self._lifetime(counts, slots, ages)
            return StreamStatus(
                stream_id=self.stream_id,
                live=self.live,
                state=self._connection.state,
                verdict=verdict,
                verdict_since=since,
                cause=line.text,
                cause_stage=line.stage,
                cadence_fps=evidence.cadence_fps,
                published_fps=evidence.published_fps,
                published_share=min(1.0, published / due) if due > 0 else None,
                age_seconds=_percentiles(ages),
                wait_seconds_p95=evidence.wait_p95,
                service_seconds_p95=evidence.service_p95,
                capture_clock=self._capture_clock,
                reconnects=self._connection.reconnects,
                last_error=self._connection.last_error,
                ledger=counts,
                loads=tuple(loads),
                lifetime=lifetime,
                final=final_verdict(
                    counts,
                    lifetime.age_seconds.p95,
                    self._settings,
                    live=self.live,
                    last_error=self._connection.last_error,
                ),
            )

    def _judge(self, now: float) -> None:
        self._judge_at = now + self._ring.part_seconds
        verdict = self._connection.verdict(now)
        if verdict is None:
            cadence = self._cadence.fps(now)
            if cadence:
                self._usual.record(1.0 / cadence)
            stall = self._stall((), now)
            measurement = self._measurement(now, cadence) if self.live else None
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
            return self._last_published is None
        if self._first_arrival is None or cadence is None:
            return True
        seconds = now - self._first_arrival
        patience, window = self._settings.hysteresis_seconds, self._settings.window_seconds
        if seconds < patience or (self._pace.undecided and seconds < window + patience):
            return True
        return self._last_published is None and seconds < window

    def _stall(self, loads: Sequence[StageLoad], now: float) -> CauseLine | None:
        """Return why nothing moves, or None while frames flow."""
        bound = self._cadence.stall_bound()
        if self._waiting_since is not None:
            stuck = now - self._waiting_since
            # A model may take seconds a frame and still be at work: then several of its frames are the measure.
            if stuck > max(bound, self._settings.window_seconds, 4 * self._longest_service):
                return (
                    causes.stuck_cause(loads, stuck) if self._open else causes.given_up_cause(*self._last_drop, stuck)
                )
            if not self.live and self._open:
                return None
        silent = self._cadence.silence_seconds(now)
        if silent is None:
            since = self._connection.live_since
            silent = 0.0 if since is None else now - since
        if not self.live and self._last_published is not None:
            # A source that waits for us delivers nothing while we work.
            silent = min(silent, now - self._last_published)
        return causes.silent_cause(silent, live=self.live) if silent > bound else None

    def _measurement(self, now: float, cadence: float | None) -> Measurement:
        slots = self._ring.recent(now)
        received = published = shed = excused = late = nearly_late = 0
        first_shed = last_shed = 0.0
        waited, waits = 0.0, 0
        recently = now - self._settings.window_seconds / 3
        ages: list[tuple[float, float]] = []
        for start, slot in slots:
            received += slot.received
            excused += slot.excused
            published += slot.published
            late += slot.late
            nearly_late += slot.nearly_late
            if slot.shed:
                first_shed = first_shed if shed else slot.shed_first
                last_shed = slot.shed_last
                shed += slot.shed
            if slot.ages.count:
                ages.append((start, slot.ages.total / slot.ages.count))
                if start >= recently:
                    waited += slot.waits.total
                    waits += slot.waits.count
        grown, over = age_growth(ages)
        long_slots = [slot for _, slot in self._long_ring.recent(now)]
        long_due = sum(slot.due for slot in long_slots)
        missing = (self._first_arrival or 0.0) - self._long_ring.reach(now)
        if cadence and missing > 0:
            long_due += int(missing * cadence)
        return Measurement(
            received=received,
            published=published,
            shed=shed,
            excused=excused,
            shed_span_seconds=last_shed - first_shed,
            long_shed=sum(slot.shed for slot in long_slots),
            long_due=long_due,
            late_share=late / published if published else 0.0,
            nearly_late_share=nearly_late / published if published else 0.0,
            age_growth_seconds=grown,
            age_growth_over_seconds=over,
            recent_wait_seconds=waited / waits if waits else 0.0,
            frame_interval_seconds=1.0 / cadence if cadence else 0.0,
        )

    def _evidence(self, now: float, slots: Sequence[_Slot], ages: Histogram) -> Evidence:
        usual_interval = self._usual.percentile(50)
        return Evidence(
            cadence_fps=self._cadence.fps(now),
            usual_fps=1.0 / usual_interval if usual_interval else None,
            published_fps=self._published_fps(now, slots),
            age_p95=ages.percentile(95),
            wait_p95=merged(slot.waits for slot in slots).percentile(95),
            service_p95=merged(slot.services for slot in slots).percentile(95),
        )

    def _published_fps(self, now: float, slots: Sequence[_Slot]) -> float | None:
        """Return frames over the time since the last one before the window, so that its edges cut no interval."""
        frames = sum(slot.published for slot in slots)
        if self._first_arrival is None or now <= self._first_arrival:
            return None
        if not frames or self._last_published is None:
            return 0.0
        before = slots[0].published_before
        seconds = self._last_published - (self._first_arrival if before is None else before)
        silence = now - self._last_published
        if silence > 2 * seconds / frames:
            seconds += silence
        return frames / seconds if seconds > 0 else None

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
            return causes.slow_camera_cause(evidence)
        return ALL_IS_WELL

    def _keep(self, slot: _Slot) -> None:
        self._ages.merge(slot.ages)
        self._waits.merge(slot.waits)
        self._services.merge(slot.services)

    def _lifetime(self, counts: LedgerSnapshot, slots: Sequence[_Slot], ages: Histogram) -> LifetimeFigures:
        """Return the figures of the whole life: what left the window, and what is in it."""
        seconds = arriving = None
        if self._first_ever is not None:
            seconds, arriving = self._last_ever - self._first_ever, self._last_arrival - self._first_ever
        return LifetimeFigures(
            seconds=seconds,
            received_fps=(counts.received - 1) / arriving if arriving else None,
            published_fps=counts.published / seconds if seconds else None,
            age_seconds=_percentiles(merged((self._ages, ages))),
            wait_seconds_p95=merged((self._waits, *(slot.waits for slot in slots))).percentile(95),
            service_seconds_p95=merged((self._services, *(slot.services for slot in slots))).percentile(95),
        )


def _percentiles(histogram: Histogram) -> AgePercentiles:
    p50, p95, p99 = histogram.percentiles((50, 95, 99))
    return AgePercentiles(p50=p50, p95=p95, p99=p99, max=histogram.largest if histogram.count else None)
