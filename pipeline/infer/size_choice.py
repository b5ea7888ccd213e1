"""At which input size the model runs: smaller while it cannot see all frames, larger again where there is room.

Pure: takes counts and times, returns a level. What a size would need is worked out, not tried: slots are busy for the
share U of their time with the frames of the last seconds, at the size they run at. A frame at another size costs what
was measured when the model was opened. So what all frames would need, those lost for want of capacity included, is U
times the work they would be over the work that was done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.keepup.verdict import Reluctance

LOOK_SECONDS = 2.0
"""How far back it looks."""
_FEWEST_SECONDS = 0.9
_BUSY = 0.6
"""Utilisation from which a lack of capacity is the model's, and not that of what comes after it."""
_FITS = 0.9
"""Most that a size may need to be chosen when there is too little."""
_ROOM = 0.75
"""Most that a larger size may need to be taken again."""
_PLAIN_SHARE = 0.05
_BELIEVED_SECONDS = 0.5
_BACK_PATIENCES = 2.5
_RELAPSE_PATIENCES = 30
_SHORTEST_PATIENCE = 1.0


class Frames(NamedTuple):
    """Frames so far."""

    adapting: int
    """Inferred, of live streams whose input may be smaller."""
    fixed: int
    """Inferred, of the other live streams."""
    patient: int
    """Inferred, of files, which can wait: they take what is left and need nothing."""
    adapting_lost: int
    """Lost for want of capacity, of live streams whose input may be smaller."""
    fixed_lost: int

    def since(self, earlier: Frames) -> Frames:
        """Return the difference."""
        return Frames(*(now - then for now, then in zip(self, earlier, strict=True)))


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float
    frames: Frames


class SizeChoice:
    """One size for all streams that may run smaller. Not thread-safe. Times are monotonic seconds."""

    def __init__(self, costs: Sequence[float], hysteresis_seconds: float) -> None:
        """``costs``: of a frame at each size, the full one first, as shares of it."""
        self.level = 0
        """Place among ``costs``."""
        self.needed = 0.0
        """Share of what there is that the present size would need for all frames; above 1 is too much."""
        self._costs = tuple(costs)
        self._patience = max(_SHORTEST_PATIENCE, hysteresis_seconds)
        self._reluctance = Reluctance(_RELAPSE_PATIENCES * self._patience)
        self._samples: deque[_Sample] = deque()
        self._short_since: float | None = None
        self._room_since: float | None = None

    def update(self, now: float, busy: float, frames: Frames) -> bool:
        """Take in how ``busy`` (0-1) the model was over the last ``LOOK_SECONDS``, and all frames so far.

        Return whether the level changed.
        """
        samples = self._samples
        samples.append(_Sample(now, frames))
        while len(samples) > 2 and samples[1].at <= now - LOOK_SECONDS:
            samples.popleft()
        if now - samples[0].at < _FEWEST_SECONDS:
            return False
        lately = frames.since(samples[0].frames)
        work = self._costs[self.level] * lately.adapting + lately.fixed + lately.patient
        if not work:  # nothing came, and nothing is known of what will
            self._short_since = self._room_since = None
            return False
        needs = [
            busy * (cost * (lately.adapting + lately.adapting_lost) + lately.fixed + lately.fixed_lost) / work
            for cost in self._costs
        ]
        self.needed = needs[self.level]
        return self._relieve(now, busy, lately, needs) or self._restore(now, needs)

    def _relieve(self, now: float, busy: float, lately: Frames, needs: Sequence[float]) -> bool:
        """Go to the largest size that would do, once frames are lost plainly and the model is what is short."""
        lost = lately.adapting_lost + lately.fixed_lost
        due = lost + lately.adapting + lately.fixed
        short = needs[self.level] > 1.0 and busy >= _BUSY and lost >= 2 and lost > _PLAIN_SHARE * due
        if not short or self.level == len(self._costs) - 1 or not lately.adapting + lately.adapting_lost:
            self._short_since = None
            return False
        if self._short_since is None:
            self._short_since = now
        if now - self._short_since + 1e-9 < _BELIEVED_SECONDS:
            return False
        smaller = range(self.level + 1, len(self._costs))
        self._reluctance.entered(now)
        self._change(next((level for level in smaller if needs[level] <= _FITS), smaller[-1]))
        return True

    def _restore(self, now: float, needs: Sequence[float]) -> bool:
        """Go back to the largest size for which there has been room for a while."""
        larger = [level for level in range(self.level) if needs[level] <= _ROOM]
        if not larger:
            self._room_since = None
            return False
        if self._room_since is None:
            self._room_since = now
        if now - self._room_since + 1e-9 < _BACK_PATIENCES * self._patience * self._reluctance.times:
            return False
        self._reluctance.left(now)
        self._change(larger[0])
        return True

    def _change(self, level: int) -> None:
        self.level = level
        # What was seen at another size says nothing about this one, and the queues are yet to settle.
        self._samples.clear()
        self._short_since = self._room_since = None
