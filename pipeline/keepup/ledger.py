"""Where every frame of one stream is: ``received = published + dropped{stage, reason} + in flight``, always.

A frame is received when its packet enters decode, and from then on it is in exactly one place until it is published or
dropped. Places are counted where frames really move, so a frame that some stage forgets stays visible as in flight.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Literal

Place = Literal["decode", "queue", "infer", "publish"]
PLACES: tuple[Place, ...] = ("decode", "queue", "infer", "publish")


@dataclass(frozen=True, slots=True)
class LedgerSnapshot:
    """One stream's frames at one moment. ``balanced`` holds for every snapshot."""

    received: int
    published: int
    dropped: dict[str, dict[str, int]]
    """Stage -> reason -> frames."""
    in_flight: dict[str, int] = field(default_factory=dict)
    """Place -> frames there now."""

    @property
    def dropped_total(self) -> int:
        """Frames dropped, over all stages and reasons."""
        return sum(count for reasons in self.dropped.values() for count in reasons.values())

    @property
    def in_flight_total(self) -> int:
        """Frames received and neither published nor dropped yet."""
        return sum(self.in_flight.values())

    @property
    def balanced(self) -> bool:
        """Whether nothing disappeared uncounted."""
        return self.received == self.published + self.dropped_total + self.in_flight_total


class Ledger:
    """One stream's counts. Thread-safe: every stage of the stream reports to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received = 0
        self._published = 0
        self._dropped: dict[str, dict[str, int]] = {}
        self._places: dict[Place, int] = dict.fromkeys(PLACES, 0)

    def receive(self, frames: int = 1) -> None:
        """Frames arrived: their packets entered decode."""
        with self._lock:
            self._received += frames
            self._places["decode"] += frames

    def move(self, origin: Place, target: Place, frames: int = 1) -> None:
        """Frames went on from one place to the next. Raises ValueError when they were not there."""
        with self._lock:
            self._take(origin, frames)
            self._places[target] += frames

    def drop(self, origin: Place, stage: str, reason: str, frames: int = 1) -> None:
        """Frames were given up at ``stage`` for ``reason``. Raises ValueError when they were not at ``origin``."""
        with self._lock:
            self._take(origin, frames)
            reasons = self._dropped.setdefault(stage, {})
            reasons[reason] = reasons.get(reason, 0) + frames

    def publish(self, frames: int = 1) -> None:
        """Frames' results went out."""
        with self._lock:
            self._take("publish", frames)
            self._published += frames

    def snapshot(self) -> LedgerSnapshot:
        """Return one consistent picture of all counts."""
        with self._lock:
            return LedgerSnapshot(
                received=self._received,
                published=self._published,
                dropped={stage: dict(reasons) for stage, reasons in self._dropped.items()},
                in_flight={place: self._places[place] for place in PLACES},
            )

    def _take(self, place: Place, frames: int) -> None:
        if self._places[place] < frames:
            raise ValueError(f"{frames} frames leave '{place}', but only {self._places[place]} are there")
        self._places[place] -= frames
