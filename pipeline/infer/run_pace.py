"""How long the model's runs take, and from that when a slot should take its next frame.

Where a runtime runs one batch at a time, a second slot prepares the next one meanwhile. If it took its frame at once
and then waited for a whole run of the other slot, the frame would come out old; if it took it when that run has ended,
the engine would have no work while it prepares. So it takes the frame just in time: as late as the frame can still be
ready when the run ends.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType

from pipeline.clock import monotonic

SHORT_SECONDS = 0.0005
"""A run that is over sooner costs less than handing its frame from thread to thread."""

_NEW_SHARE = 0.15
_MARGIN_SECONDS = 0.002
"""Waking up and taking the frame. Being late costs more (an idle engine) than being early (an older frame)."""


_STUCK_RUNS = 20.0
"""A run that takes longer than so many of the longest so far is not slow: it hangs, and only a restart helps."""


class RunPace:
    """Watches the runs of all slots, and makes slots wait until it is time for their next frame. Thread-safe."""

    def __init__(self, *, just_in_time: Callable[[], bool], clock: Callable[[], float] = monotonic) -> None:
        """``just_in_time``: whether one batch runs at a time and what waits grows old. Else nobody has to wait."""
        self._just_in_time = just_in_time
        self._clock = clock
        self._changed = threading.Condition()
        self._asked: dict[_Run, float] = {}
        """Runs that were asked for and have not ended, and since when."""
        self._begun = 0.0
        self._run_seconds: float | None = None
        self._deviation = 0.0
        self._prepare_seconds = 0.0
        self.longest_seconds = 0.0
        """The longest run so far, time spent waiting for its turn included."""
        self._usual_seconds = float("inf")
        """The same, averaged over the last dozen."""

    def wait_until_due(self) -> None:
        """Return when a frame taken now will be ready as the present run ends; at once where nothing runs."""
        if self._just_in_time():
            with self._changed:
                while (seconds := self.seconds_until_due()) > 0:
                    self._changed.wait(seconds)

    def seconds_until_due(self) -> float:
        """Return how long to wait from now on; 0 or less: take a frame now."""
        if self._run_seconds is None or not self._asked:
            return 0.0
        ends_at = self._begun + len(self._asked) * self._run_seconds - self._deviation
        return ends_at - self._prepare_seconds - _MARGIN_SECONDS - self._clock()

    @property
    def short(self) -> bool:
        """Whether runs are so short that handing over frames costs more."""
        return self._usual_seconds < SHORT_SECONDS

    def stuck(self, patience_seconds: float) -> str:
        """Return what hangs, for people; empty while every run ends."""
        seconds = self.running_seconds()
        if seconds <= max(patience_seconds, _STUCK_RUNS * self.longest_seconds):
            return ""
        return f"a run of the model has not come back for {seconds:.0f} s"

    def running_seconds(self) -> float:
        """Return how long the oldest run that has not ended is going on; 0 where nothing runs."""
        with self._changed:
            return self._clock() - min(self._asked.values()) if self._asked else 0.0

    def run(self, taken_at: float) -> _Run:
        """Return a context: what happens inside is a run of a batch that was taken at ``taken_at`` (monotonic seconds).

        To be entered once.
        """
        return _Run(self, taken_at)

    def _begin(self, run: _Run, taken_at: float) -> None:
        begun = self._clock()
        with self._changed:
            self._prepare_seconds += _NEW_SHARE * (begun - taken_at - self._prepare_seconds)
            if not self._asked:
                self._begun = begun
            self._asked[run] = begun

    def _end(self, run: _Run) -> None:
        with self._changed:
            now = self._clock()
            self._learn(now - self._begun, now - self._asked.pop(run))
            self._begun = now
            self._changed.notify_all()

    def _learn(self, seconds: float, asked_seconds: float) -> None:
        if self._run_seconds is None:
            self._run_seconds, self._usual_seconds = seconds, asked_seconds
        off = seconds - self._run_seconds
        self._run_seconds += _NEW_SHARE * off
        self._deviation += _NEW_SHARE * (abs(off) - self._deviation)
        self._usual_seconds += _NEW_SHARE * (asked_seconds - self._usual_seconds)
        if asked_seconds > self.longest_seconds:
            self.longest_seconds = asked_seconds


class _Run:
    """One run: entered when it is asked for, left when it has ended."""

    __slots__ = ("_pace", "_taken_at")

    def __init__(self, pace: RunPace, taken_at: float) -> None:
        self._pace = pace
        self._taken_at = taken_at

    def __enter__(self) -> None:
        self._pace._begin(self, self._taken_at)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pace._end(self)
