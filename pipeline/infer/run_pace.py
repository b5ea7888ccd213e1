"""How long the model's runs take, and from that when a slot should take its next frame.

Where a runtime runs one batch at a time, a second slot prepares the next one meanwhile. If it took its frame at once
and then waited for a whole run of the other slot, the frame would come out old; if it took it when that run has ended,
the engine would have no work while it prepares. So it takes the frame just in time: as late as the frame can still be
ready when the run ends.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.clock import monotonic

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
        self._tokens = itertools.count()
        self._asked: dict[int, float] = {}
        """Runs that were asked for and have not ended, and since when."""
        self._begun = 0.0
        self._run_seconds: float | None = None
        self._deviation = 0.0
        self._prepare_seconds = 0.0
        self.longest_seconds = 0.0
        """The longest run so far, time spent waiting for its turn included."""

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

    @contextmanager
    def run(self, taken_at: float) -> Iterator[None]:
        """What happens inside is a run of a batch that was taken at ``taken_at`` (monotonic seconds)."""
        begun = self._clock()
        with self._changed:
            self._prepare_seconds += _NEW_SHARE * (begun - taken_at - self._prepare_seconds)
            token = next(self._tokens)
            if not self._asked:
                self._begun = begun
            self._asked[token] = begun
        try:
            yield
        finally:
            with self._changed:
                now = self._clock()
                self._learn(now - self._begun)
                self._begun = now
                self.longest_seconds = max(self.longest_seconds, now - self._asked.pop(token))
                self._changed.notify_all()

    def _learn(self, seconds: float) -> None:
        if self._run_seconds is None:
            self._run_seconds = seconds
        off = seconds - self._run_seconds
        self._run_seconds += _NEW_SHARE * off
        self._deviation += _NEW_SHARE * (abs(off) - self._deviation)
