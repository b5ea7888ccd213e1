"""Whether a live stream keeps pace: pure conditions on one window's counts, and the patience before they are shown.

Two things can be wrong with pace, and they differ in what happens to frames:

- *behind*: frames come late. More of them entered than left over the window (a backlog grows), or their age grows,
  by a quarter of the age allowed; or they are older than allowed. Nothing more than the tolerance is lost yet, and the
  debt can still be worked off.
- *losing*: frames are given up. Over the window, more than the tolerance went to overload, and not in one moment:
  the first and the last of them are at least a fifth of the window apart. One burst that overflows a queue is counted
  in the ledger, but is no overload. Three times the tolerance is believed at once; less must also be more than the
  tolerance of the *long window* of six windows, because a single window is too short to tell 1 % from 3 %.

Each condition is left at half of what it is entered at, and one that keeps coming back is left ever more reluctantly,
so that a load at the very boundary has one verdict, not two in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.keepup.settings import KeepupSettings
from pipeline.publish.messages import Verdict

SLACK_FRAMES = 2.0
"""Frames that may be on their way without being a backlog, whatever the tolerance."""
_LATE_SHARE = 0.05
_PERSISTENT_SHARE = 0.2
_PLAIN = 3.0
_GROWTH_SHARE = 0.25
_RELAPSE_PATIENCES = 30
_MOST_RELUCTANT = 8

SEVERITY: tuple[Verdict, ...] = (
    "ended",
    "paused",
    "keeping_up",
    "starting",
    "falling_behind",
    "overloaded",
    "reconnecting",
    "black",
    "frozen",
    "stalled",
    "offline",
)
"""From harmless to worst: a process is as well as its worst stream."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What happened to one stream's frames over the window."""

    received: int
    published: int
    shed: int
    """Dropped for want of capacity."""
    excused: int
    """Dropped for another reason, such as a damaged picture."""
    shed_span_seconds: float
    """From the first to the last frame shed."""
    long_shed: int
    """Dropped for want of capacity over the long window."""
    long_due: int
    """Frames due over the long window; a connection younger than that counts as if it had been without loss before."""
    late_share: float
    """Share of published frames older than allowed, 0-1."""
    nearly_late_share: float
    """Share of published frames older than nine tenths of what is allowed, 0-1."""
    age_growth_seconds: float
    """How much older frames became over ``age_growth_over_seconds``; negative: younger."""
    age_growth_over_seconds: float
    """0 while there is too little to tell."""
    recent_wait_seconds: float
    """Mean time in queues of the frames published in the newest third of the window."""
    frame_interval_seconds: float
    """Of the measured cadence; 0 while unknown."""

    @property
    def due(self) -> int:
        """Frames that ought to be published."""
        return self.received - self.excused

    @property
    def backlog_growth(self) -> int:
        """How many more frames entered than left; negative while a backlog is worked off."""
        return self.due - self.published - self.shed


def is_losing(now: Measurement, settings: KeepupSettings, *, already: bool) -> bool:
    """Whether frames are persistently lost to overload. ``already``: it is what the verdict says."""
    if already:
        if now.shed > settings.tolerance * now.due / 2:
            return True
        # A lull at the boundary still finds frames waiting; after a real relief the queue is empty.
        relieved = now.recent_wait_seconds <= SLACK_FRAMES * now.frame_interval_seconds
        return not relieved and now.long_shed > settings.tolerance * now.long_due / 2
    if now.shed_span_seconds < _PERSISTENT_SHARE * settings.window_seconds:
        return False
    allowed = settings.tolerance * now.due
    return now.shed > _PLAIN * allowed or (now.shed > allowed and now.long_shed > settings.tolerance * now.long_due)


def is_behind(now: Measurement, settings: KeepupSettings, *, already: bool) -> bool:
    """Whether frames come late, or ever later. ``already``: it is what the verdict says."""
    ease = 0.5 if already else 1.0
    if (now.nearly_late_share if already else now.late_share) > _LATE_SHARE:
        return True
    # Growth below this is how a short queue breathes at full load: it will never make a frame too old.
    matters = _GROWTH_SHARE * settings.max_age_seconds
    interval = now.frame_interval_seconds
    frames = max(SLACK_FRAMES, settings.tolerance * now.due, matters / interval if interval else 0.0)
    if now.backlog_growth > ease * frames:
        return True
    over = now.age_growth_over_seconds
    return over > 0 and now.age_growth_seconds > ease * max(settings.tolerance * over, SLACK_FRAMES * interval, matters)


def age_growth(ages: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return by how many seconds ages grew, and over how many, from ``(monotonic seconds, mean age)`` in order.

    Compares the medians of the oldest and the newest third: one late burst moves neither. (0, 0) for under six points.
    """
    third = len(ages) // 3
    if third < 2:
        return 0.0, 0.0
    middle = third // 2
    grown = sorted(age for _, age in ages[-third:])[middle] - sorted(age for _, age in ages[:third])[middle]
    return grown, ages[middle - third][0] - ages[middle][0]


class Debounce:
    """A condition that is believed only after it held, and dropped only after it was gone, for so many seconds.

    One that comes back soon (within thirty times ``off_seconds``) is dropped only after twice the time, and so on, up
    to eight times: noise at a boundary then shows once, not all the time.
    """

    __slots__ = ("_changed_at", "_condition", "_dropped_at", "_off_seconds", "_on_seconds", "_reluctance", "shown")

    def __init__(self, on_seconds: float, off_seconds: float) -> None:
        self._on_seconds = on_seconds
        self._off_seconds = off_seconds
        self._condition = False
        self._changed_at = self._dropped_at = float("-inf")
        self._reluctance = 1
        self.shown = False

    @property
    def undecided(self) -> bool:
        """Whether what is shown may be about to change."""
        return self._condition != self.shown

    def update(self, condition: bool, now: float) -> bool:
        """Take in the condition at ``now`` (monotonic seconds); return what to show."""
        if condition != self._condition:
            self._condition = condition
            self._changed_at = now
        held = now - self._changed_at + 1e-9
        if condition and not self.shown and held >= self._on_seconds:
            self.shown = True
            relapse = now - self._dropped_at < _RELAPSE_PATIENCES * self._off_seconds
            self._reluctance = min(_MOST_RELUCTANT, 2 * self._reluctance) if relapse else 1
        elif self.shown and not condition and held >= self._off_seconds * self._reluctance:
            self.shown = False
            self._dropped_at = now
        return self.shown


class Pace:
    """The verdict on one connected stream, as patient as ``hysteresis_seconds``.

    A stall is shown at once (silence was patience enough), and is over once frames flowed for the hysteresis.
    """

    def __init__(self, settings: KeepupSettings) -> None:
        self._settings = settings
        patience = settings.hysteresis_seconds
        self._behind = Debounce(patience, patience)
        self._losing = Debounce(patience, patience)
        self._stalled = Debounce(0.0, patience)

    def update(self, measurement: Measurement | None, *, stalled: bool, now: float) -> Verdict:
        """Take in the window at ``now`` (monotonic seconds); return the verdict.

        Without a measurement (a stream that waits for us) only a stall can be wrong.
        """
        self._stalled.update(stalled, now)
        if measurement is None:
            return self.verdict
        losing = is_losing(measurement, self._settings, already=self._losing.shown)
        # Losing is a way of being behind: going from one to the other must not start the patience anew.
        behind = losing or is_behind(measurement, self._settings, already=self._behind.shown)
        self._losing.update(losing, now)
        self._behind.update(behind, now)
        return self.verdict

    @property
    def undecided(self) -> bool:
        """Whether a stream that seems to keep up may turn out not to."""
        return self.verdict == "keeping_up" and self._behind.undecided

    @property
    def verdict(self) -> Verdict:
        """What was shown last."""
        if self._stalled.shown:
            return "stalled"
        if self._losing.shown:
            return "overloaded"
        return "falling_behind" if self._behind.shown else "keeping_up"
