"""How fast a camera really delivers, from nothing but the times its frames arrive.

The cadence is frames over the time they took, of the last window (and never of less than ``FEWEST`` frames, so that a
camera of one frame in ten seconds has a cadence too). A mean of so many intervals does not care about jitter, frames
that come in pairs, or a variable rate. Three things would mislead it, and are told apart:

- A *gap*: silence of the stall bound or longer. The stream did not deliver slower, it did not deliver: a gap counts as
  one ordinary interval. But when there are several and they outweigh the delivery, they are how it delivers.
- A *burst after a gap*: the late frames come after all, in a rush. Each pays back the silence it was late for, so that
  gap and burst together count as if the frames had come on time. A shorter silence needs none of this: it and its
  burst are in the mean together.
- A *burst at the start*: servers often hand out the pictures since the last keyframe at once. It is left out.
"""

from __future__ import annotations

from collections import deque

FEWEST = 8
"""Intervals that are kept, however old."""
_ENOUGH = 5
_GAP_INTERVALS = 4.0
_RUSH = 0.8
_START_BURST = 4.0


class _Interval:
    __slots__ = ("at", "excluded", "gap", "seconds")

    def __init__(self, at: float, seconds: float, excluded: float = 0.0, *, gap: bool = False) -> None:
        self.at = at
        self.seconds = seconds
        self.excluded = excluded
        self.gap = gap


class Cadence:
    """One stream's cadence. Not thread-safe. All times are monotonic seconds."""

    def __init__(self, window_seconds: float, stall_seconds: float) -> None:
        self._window = window_seconds
        self._stall = stall_seconds
        self._enough_seconds = min(1.0, window_seconds / 2)
        self._intervals: deque[_Interval] = deque()
        self._seconds = 0.0
        self._excluded = 0.0
        self._gaps = 0
        self._last_gap: _Interval | None = None
        self._last: float | None = None
        self._start_burst_possible = True

    def restart(self) -> None:
        """Forget everything: the stream was connected anew, and may be another camera."""
        self._intervals.clear()
        self._seconds = self._excluded = 0.0
        self._gaps = 0
        self._last_gap = self._last = None
        self._start_burst_possible = True

    def arrived(self, received_at: float) -> None:
        """One frame arrived."""
        if self._last is None:
            self._last = received_at
            return
        seconds = received_at - self._last
        if seconds < 0.0:
            seconds = 0.0
        else:
            self._last = received_at
        usual = self._usual_interval()
        if usual is None:
            if not self._ends_start_burst(seconds):
                self._add(_Interval(received_at, seconds))
        elif seconds > self._stall and seconds > _GAP_INTERVALS * usual:
            self._last_gap = _Interval(received_at, usual, seconds - usual, gap=True)
            self._add(self._last_gap)
        else:
            self._add(_Interval(received_at, seconds + self._pay_back(seconds, usual)))

    def fps(self, now: float) -> float | None:
        """Return frames per second; None until enough arrived to tell, 0.0 while the stream is stalled."""
        usual = self._usual_interval()
        if usual is None or self._last is None:
            return None
        silence = now - self._last
        if silence > self.stall_bound():
            return 0.0
        if silence > 2 * usual:
            return len(self._intervals) / (len(self._intervals) * usual + silence - usual)
        return 1.0 / usual

    def silence_seconds(self, now: float) -> float | None:
        """Return how long ago the last frame came; None before the first."""
        return None if self._last is None else max(0.0, now - self._last)

    def stall_bound(self) -> float:
        """Return the silence in seconds beyond which the stream is stalled: four usual intervals, and not too short."""
        return max(self._stall, _GAP_INTERVALS * (self._usual_interval() or 0.0))

    def _usual_interval(self) -> float | None:
        count = len(self._intervals)
        seconds = self._seconds
        if self._gaps >= 3 and self._excluded > seconds:
            seconds += self._excluded
        if seconds <= 0.0 or count < 2:
            return None
        if (count >= _ENOUGH and seconds >= self._enough_seconds) or seconds >= self._window:
            return seconds / count
        return None

    def _ends_start_burst(self, seconds: float) -> bool:
        count = len(self._intervals)
        # Only once: a camera that always sends its frames by the handful has no other pace to wait for.
        if not self._start_burst_possible or count < 3 or seconds <= _START_BURST * self._seconds / count:
            return False
        self._intervals.clear()
        self._seconds = 0.0
        self._start_burst_possible = False
        return True

    def _pay_back(self, seconds: float, usual: float) -> float:
        gap = self._last_gap
        if gap is None:
            return 0.0
        if seconds > _RUSH * usual:
            self._last_gap = None
            return 0.0
        paid = min(gap.excluded, usual - seconds)
        gap.excluded -= paid
        self._excluded -= paid
        return paid

    def _add(self, interval: _Interval) -> None:
        intervals = self._intervals
        intervals.append(interval)
        self._seconds += interval.seconds
        if interval.gap:
            self._excluded += interval.excluded
            self._gaps += 1
        oldest = interval.at - self._window
        while len(intervals) > FEWEST and intervals[0].at < oldest:
            gone = intervals.popleft()
            self._seconds -= gone.seconds
            if gone.gap:
                self._excluded -= gone.excluded
                self._gaps -= 1
                self._last_gap = None if gone is self._last_gap else self._last_gap
