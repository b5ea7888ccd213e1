"""What happened to one stream's frames lately, in sub-windows, and what the verdict is made from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipeline.keepup.histogram import Histogram, merged
from pipeline.keepup.settings import LONG_WINDOWS, KeepupSettings
from pipeline.keepup.verdict import SLACK_FRAMES, Counts, Measurement, age_growth
from pipeline.keepup.wait_trend import WaitTrend
from pipeline.keepup.window import Ring

_NEW_SHARE = 0.15


class SubWindow:
    """What happened in one sub-window. Times are monotonic seconds."""

    __slots__ = (
        "ages",
        "excused",
        "inferred",
        "late",
        "late_first",
        "late_last",
        "nearly_late",
        "passed",
        "published",
        "published_before",
        "received",
        "services",
        "shed",
        "shed_first",
        "shed_last",
        "strided",
        "waits",
    )

    def __init__(self, published_before: float | None) -> None:
        self.published_before = published_before
        """When the last frame before this sub-window was published."""
        self.received = self.published = self.shed = self.excused = 0
        self.late = self.nearly_late = 0
        self.inferred = self.passed = self.strided = 0
        self.shed_first = self.shed_last = self.late_first = self.late_last = 0.0
        self.ages = Histogram()
        self.waits = Histogram()
        self.services = Histogram()


class _LongSubWindow:
    __slots__ = ("due", "shed", "shed_first")

    def __init__(self) -> None:
        self.due = self.shed = 0
        self.shed_first = 0.0


class Tally:
    """Counts of the last window, histograms of the whole life. Not thread-safe. Times are monotonic seconds."""

    def __init__(self, settings: KeepupSettings) -> None:
        self.ages, self.waits, self.services = Histogram(), Histogram(), Histogram()
        """Of what left the window."""
        self.last_published: float | None = None
        self.last_shed = self._proven_at = float("-inf")
        self._trend = WaitTrend()
        self.longest_service = 0.0
        self.usual_gap = 0.0
        """Seconds between two published frames, averaged over the last dozen."""
        self._settings = settings
        self._ring: Ring[SubWindow] = Ring(
            settings.window_seconds, lambda: SubWindow(self.last_published), retire=self._keep
        )
        self._long_ring: Ring[_LongSubWindow] = Ring(LONG_WINDOWS * settings.window_seconds, _LongSubWindow)

    @property
    def part_seconds(self) -> float:
        """Length of a sub-window."""
        return self._ring.part_seconds

    def restart(self) -> None:
        """A new connection: what was counted before says nothing now. The life's histograms stay."""
        self._ring.clear()
        self._long_ring.clear()
        self.last_published = None
        self.last_shed = self._proven_at = float("-inf")
        self._trend.clear()

    def received(self, now: float) -> None:
        """One frame came in."""
        self._ring.at(now).received += 1
        self._long_ring.at(now).due += 1

    def shed(self, now: float, frames: int) -> None:
        """Frames were given up for want of capacity."""
        if now - self.last_shed > self._settings.hysteresis_seconds and self._trend.has_risen():
            self._proven_at = now
        slot = self._ring.at(now)
        if not slot.shed:
            slot.shed_first = now
        slot.shed += frames
        slot.shed_last = self.last_shed = now
        long_slot = self._long_ring.at(now)
        if not long_slot.shed:
            long_slot.shed_first = now
        long_slot.shed += frames

    def excused(self, now: float, frames: int) -> None:
        """Frames were given up for another reason."""
        self._ring.at(now).excused += frames
        self._long_ring.at(now).due -= frames

    def strided(self, now: float, frames: int) -> None:
        """Frames were given up because the stream's stride left them out."""
        self.excused(now, frames)
        slot = self._ring.at(now)
        slot.passed += frames
        slot.strided += frames

    def published(
        self, now: float, age_seconds: float, wait_seconds: float, service_seconds: float, *, carried: bool = False
    ) -> None:
        """One frame's result went out. ``carried``: the model did not see it."""
        slot = self._ring.at(now)
        slot.published += 1
        if carried:
            slot.passed += 1
        else:
            slot.inferred += 1
        limit = self._settings.max_age_seconds
        if age_seconds > 0.9 * limit:
            slot.nearly_late += 1
            if age_seconds > limit:
                if not slot.late:
                    slot.late_first = now
                slot.late += 1
                slot.late_last = now
        slot.ages.record(age_seconds)
        slot.waits.record(wait_seconds)
        self._trend.add(now, wait_seconds)
        slot.services.record(service_seconds)
        if service_seconds > self.longest_service:
            self.longest_service = service_seconds
        if self.last_published is not None:
            gap = min(now - self.last_published, self._settings.window_seconds)
            self.usual_gap += _NEW_SHARE * (gap - self.usual_gap)
        self.last_published = now

    def window(self, now: float) -> list[SubWindow]:
        """Return the window's sub-windows, oldest first; empty ones may lack."""
        return [slot for _, slot in self._ring.recent(now)]

    def measure(self, now: float, cadence: float | None, first_arrival: float) -> Measurement:
        """Return what the verdict is made from. ``cadence``: frames a second; ``first_arrival`` of the connection."""
        slots = self._ring.recent(now)
        recently = now - self._settings.recent_seconds
        recent = [slot for start, slot in slots if start >= recently]
        waits = [slot.waits.largest for slot in recent if slot.waits.count]
        ages = [(start, slot.ages.total / slot.ages.count) for start, slot in slots if slot.ages.count]
        grown, over = age_growth(ages)
        long_slots = [slot for _, slot in self._long_ring.recent(now)]
        long_due = sum(slot.due for slot in long_slots)
        missing = first_arrival - self._long_ring.reach(now)
        if cadence and missing > 0:
            long_due += int(missing * cadence)
        long_shed = sum(slot.shed for slot in long_slots)
        first_shed = next((slot.shed_first for slot in long_slots if slot.shed), self.last_shed)
        return Measurement(
            window=_counts(slot for _, slot in slots),
            recent=_counts(recent),
            since_shed_seconds=now - self.last_shed,
            since_proof_seconds=now - self._proven_at,
            shed_gap_seconds=(self.last_shed - first_shed) / (long_shed - 1) if long_shed > 1 else 0.0,
            long_shed=long_shed,
            long_due=long_due,
            recent_wait_seconds=max(waits, default=float("inf")),
            age_growth_seconds=grown,
            age_growth_over_seconds=over,
            frame_interval_seconds=1.0 / cadence if cadence else 0.0,
        )

    def published_share(self, slots: Sequence[SubWindow]) -> float | None:
        """Return the share of frames that were published, 0-1, of those whose fate was decided over the window.

        A backlog that grows is owed, and counts as not published; the few frames that are always on their way do not.
        None where nothing was due.
        """
        counts = _counts(slots)
        owed = counts.due - counts.published - counts.shed
        decided = counts.published + counts.shed + (owed if owed > SLACK_FRAMES else 0)
        return counts.published / decided if decided else None

    def wanted_share(self, slots: Sequence[SubWindow], every: int) -> float:
        """Return the share of the frames received that are meant to be published, 0-1.

        Left out are those dropped on purpose (a limited rate, a stride of ``every`` without tracks) and damaged ones.
        Those that a stride leaves out because it adapts are wanted: there was no capacity for them.
        """
        received = sum(slot.received for slot in slots)
        if not received:
            return 1.0
        strided = sum(slot.strided for slot in slots)
        wanted = received - sum(slot.excused for slot in slots) + strided
        return max(0.0, wanted - min(strided, wanted * (1.0 - 1.0 / every))) / received

    def inferred_every(self, slots: Sequence[SubWindow]) -> float | None:
        """Return how many frames there were over the window for each one that the model saw; None where it saw none."""
        inferred, passed = sum(slot.inferred for slot in slots), sum(slot.passed for slot in slots)
        return (inferred + passed) / inferred if inferred else None

    def published_fps(self, slots: Sequence[SubWindow], now: float, first_arrival: float | None) -> float | None:
        """Return frames over the time since the last one before the window, so that its edges cut no interval."""
        frames = sum(slot.published for slot in slots)
        if first_arrival is None or now <= first_arrival:
            return None
        if not frames or self.last_published is None:
            return 0.0
        before = slots[0].published_before
        seconds = self.last_published - (first_arrival if before is None else before)
        silence = now - self.last_published
        if silence > 2 * seconds / frames:
            seconds += silence
        return frames / seconds if seconds > 0 else None

    def lifetime(self, slots: Sequence[SubWindow]) -> tuple[Histogram, Histogram, Histogram]:
        """Return ages, waits and service times of the whole life: what left the window, and what is in it."""
        return (
            merged((self.ages, *(slot.ages for slot in slots))),
            merged((self.waits, *(slot.waits for slot in slots))),
            merged((self.services, *(slot.services for slot in slots))),
        )

    def _keep(self, slot: SubWindow) -> None:
        self.ages.merge(slot.ages)
        self.waits.merge(slot.waits)
        self.services.merge(slot.services)


def _counts(slots: Iterable[SubWindow]) -> Counts:
    due = published = shed = late = nearly_late = 0
    first_shed = last_shed = first_late = last_late = 0.0
    for slot in slots:
        due += slot.received - slot.excused
        published += slot.published
        nearly_late += slot.nearly_late
        if slot.shed:
            first_shed = first_shed if shed else slot.shed_first
            last_shed = slot.shed_last
            shed += slot.shed
        if slot.late:
            first_late = first_late if late else slot.late_first
            last_late = slot.late_last
            late += slot.late
    return Counts(due, published, shed, last_shed - first_shed, late, nearly_late, last_late - first_late)
