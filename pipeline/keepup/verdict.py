"""Whether a live stream keeps pace: pure conditions on what happened lately, and the patience before they are left.

Two things can be wrong with pace, and they differ in what happens to frames:

- *losing*: frames are given up. More than the tolerance went to overload, and not in one moment: one burst that
  overflows a queue is counted in the ledger, but is no overload. The first frame lost is proof where waits had grown
  before by more than chance explains. Plain losses (three times the tolerance) are believed from the *recent* part of
  the window; smaller ones must show over the whole window and over the *long window* of six
  windows, because a short time holds too few frames to tell 1 % from 3 %.
- *behind*: frames come late. More of them entered than left over the window (a backlog grows), or their age grows,
  by a quarter of the age allowed; or they are older than allowed. Nothing more than the tolerance is lost yet, and the
  debt can still be worked off.

A loss is over when no frame was given up for a while: the recent part of the window where no frame waits any more,
else five times as long as losses were apart before. Weak losses that keep coming back are left ever more reluctantly,
so that a load at the very boundary has one verdict, not two in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.keepup.settings import KeepupSettings
from pipeline.publish.messages import Verdict

SLACK_FRAMES = 2.0
"""Frames that may be on their way without being a backlog, whatever the tolerance."""
_LATE_SHARE = 0.05
_PERSISTENT_SHARE = 0.2
_RECENTLY_PERSISTENT_SHARE = 0.4
_PROVES_SHARE = 0.4
_PLAIN = 3.0
_STRONG = 0.15
"""Share of frames lost from which an overload is no matter of noise."""
_GROWTH_SHARE = 0.25
_QUIET_GAPS = 5.0
_HARDLY_WAITING = 0.2
"""Share of a frame interval that any frame may wait where there is capacity to spare."""
_RELAPSE_PATIENCES = 30
_MOST_RELUCTANT = 16
_BELIEVED_SHARE = 0.25
"""Share of the patience for which frames must come late before the verdict says so, or stops saying so."""

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


class Counts(NamedTuple):
    """What happened to one stream's frames over some time."""

    due: int
    """Frames that ought to be published: received, and neither damaged nor dropped on purpose."""
    published: int
    shed: int
    """Dropped for want of capacity."""
    shed_span_seconds: float
    """From the first to the last frame shed."""
    late: int
    """Published frames that were older than allowed."""
    nearly_late: int
    """Published frames that were older than nine tenths of what is allowed."""
    late_span_seconds: float
    """From the first to the last frame that was late."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What the verdict on one live stream is made from."""

    window: Counts
    recent: Counts
    """The newest part of the window, ``KeepupSettings.recent_seconds`` long."""
    since_shed_seconds: float
    """Since the last frame was shed; infinite before the first."""
    since_proof_seconds: float
    """Since a frame was shed after waits had grown by more than chance explains; infinite for never."""
    shed_gap_seconds: float
    """Mean time between frames shed over the long window; 0 for fewer than two."""
    long_shed: int
    """Dropped for want of capacity over the long window."""
    long_due: int
    """Frames due over the long window; a connection younger than that counts as if it had been without loss before."""
    recent_wait_seconds: float
    """Longest time in queues of the frames published recently; infinite for none."""
    age_growth_seconds: float
    """How much older frames became over ``age_growth_over_seconds``; negative: younger."""
    age_growth_over_seconds: float
    """0 while there is too little to tell."""
    frame_interval_seconds: float
    """Of the measured cadence; 0 while unknown."""

    @property
    def backlog_growth(self) -> int:
        """How many more frames entered than left over the window; negative while a backlog is worked off."""
        return self.window.due - self.window.published - self.window.shed


def is_losing(now: Measurement, settings: KeepupSettings, since_left_seconds: float = float("inf")) -> bool:
    """Whether frames are persistently lost to overload. ``since_left_seconds``: since the last such loss was over."""
    tolerance, recent, window = settings.tolerance, now.recent, now.window
    if now.since_proof_seconds < _PROVES_SHARE * settings.recent_seconds:
        return True
    plain = recent.shed > max(1.0, _PLAIN * tolerance * recent.due)
    if plain and recent.shed_span_seconds >= _RECENTLY_PERSISTENT_SHARE * settings.recent_seconds:
        return True
    if window.shed_span_seconds < _PERSISTENT_SHARE * settings.window_seconds:
        return False
    if since_left_seconds < settings.window_seconds:  # the window still holds what is over
        return False
    return window.shed > tolerance * window.due and now.long_shed > tolerance * now.long_due


def stopped_losing(now: Measurement, settings: KeepupSettings, reluctance: int) -> bool:
    """Whether a loss is over. ``reluctance`` makes it take so many times as long to believe, if capacity is scarce."""
    if now.since_shed_seconds + 1e-9 >= settings.recent_seconds and now.recent_wait_seconds <= _HARDLY_WAITING * (
        now.frame_interval_seconds
    ):
        return True
    quiet = max(settings.recent_seconds, _QUIET_GAPS * now.shed_gap_seconds)
    if now.since_shed_seconds + 1e-9 >= reluctance * quiet:
        return True
    few = settings.tolerance / 2
    return now.long_shed <= few * now.long_due and now.window.shed <= few * now.window.due


def is_behind(now: Measurement, settings: KeepupSettings, *, already: bool) -> bool:
    """Whether frames come late, or ever later. ``already``: it is what the verdict says."""
    ease = 0.5 if already else 1.0
    recent = now.recent
    if already:
        if recent.nearly_late > _LATE_SHARE * recent.published:
            return True
    elif (
        recent.late > _LATE_SHARE * recent.published
        and recent.late_span_seconds >= _RECENTLY_PERSISTENT_SHARE * settings.recent_seconds
    ):
        return True
    # Growth below this is how a short queue breathes at full load: it will never make a frame too old.
    matters = _GROWTH_SHARE * settings.max_age_seconds
    interval = now.frame_interval_seconds
    frames = max(SLACK_FRAMES, settings.tolerance * now.window.due, matters / interval if interval else 0.0)
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

    One that comes back soon (within ``relapse_seconds``) is dropped only after twice the time, and so on, up to sixteen
    times: noise at a boundary then shows once, not all the time.
    """

    __slots__ = ("_changed_at", "_condition", "_off_seconds", "_on_seconds", "_reluctance", "shown")

    def __init__(self, on_seconds: float, off_seconds: float, relapse_seconds: float) -> None:
        self._on_seconds = on_seconds
        self._off_seconds = off_seconds
        self._reluctance = Reluctance(relapse_seconds)
        self._condition = False
        self._changed_at = float("-inf")
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
            self._reluctance.entered(now)
        elif self.shown and not condition and held >= self._off_seconds * self._reluctance.times:
            self.shown = False
            self._reluctance.left(now)
        return self.shown


class Reluctance:
    """How many times as long to wait before something is left that keeps coming back."""

    __slots__ = ("_relapse_seconds", "left_at", "times")

    def __init__(self, relapse_seconds: float) -> None:
        self._relapse_seconds = relapse_seconds
        self.left_at = float("-inf")
        """When it was left last."""
        self.times = 1

    def entered(self, now: float) -> None:
        """It came (back) at ``now``, in monotonic seconds."""
        relapse = now - self.left_at < self._relapse_seconds
        self.times = min(_MOST_RELUCTANT, 2 * self.times) if relapse else 1

    def left(self, now: float) -> None:
        """It was gone for long enough."""
        self.left_at = now

    def forget(self) -> None:
        """What came is no noise."""
        self.times = 1


class Pace:
    """The verdict on one connected stream: every change shows within ``hysteresis_seconds`` where it is plain.

    A stall is shown at once (silence was patience enough), and is over once frames flowed for a while.
    """

    def __init__(self, settings: KeepupSettings) -> None:
        self._settings = settings
        patience = settings.hysteresis_seconds
        relapse_seconds = _RELAPSE_PATIENCES * patience
        self._behind = Debounce(_BELIEVED_SHARE * patience, _BELIEVED_SHARE * patience, relapse_seconds)
        self._losing = False
        self._reluctance = Reluctance(relapse_seconds)
        self._stalled = Debounce(0.0, settings.recent_seconds, relapse_seconds)

    def update(self, measurement: Measurement | None, *, stalled: bool, now: float) -> Verdict:
        """Take in what happened lately, at ``now`` (monotonic seconds); return the verdict.

        Without a measurement (a stream that waits for us) only a stall can be wrong.
        """
        self._stalled.update(stalled, now)
        if measurement is not None:
            self._update_losing(measurement, now)
            self._behind.update(is_behind(measurement, self._settings, already=self._behind.shown), now)
        return self.verdict

    def _update_losing(self, measurement: Measurement, now: float) -> None:
        window = measurement.window
        if not self._losing:
            if is_losing(measurement, self._settings, now - self._reluctance.left_at):
                self._losing = True
                self._reluctance.entered(now)
        elif stopped_losing(measurement, self._settings, self._reluctance.times):
            self._losing = False
            self._reluctance.left(now)
        if self._losing and window.shed > max(SLACK_FRAMES, _STRONG * window.due):
            self._reluctance.forget()

    @property
    def undecided(self) -> bool:
        """Whether a stream that seems to keep up may turn out not to."""
        return self.verdict == "keeping_up" and self._behind.undecided

    @property
    def verdict(self) -> Verdict:
        """What was shown last."""
        if self._stalled.shown:
            return "stalled"
        if self._losing:
            return "overloaded"
        return "falling_behind" if self._behind.shown else "keeping_up"
