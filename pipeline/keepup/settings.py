"""What pace is judged by. Plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.config.sections import KeepupSection

SUB_WINDOWS = 20
"""A window slides in steps of a twentieth, and the verdict is reconsidered at each step."""

LONG_WINDOWS = 6
"""A small loss must show over a window so many times as long before it is called overload."""

OVERLOAD_REASONS = frozenset({"queue_full", "deadline", "stale"})
"""Drop reasons that mean "there was no capacity for this frame". Any other reason (a damaged picture, shutting down, a
stride that was asked for) excuses the frame: it counts as dropped, but not against the pace."""


@dataclass(frozen=True, slots=True)
class KeepupSettings:
    """How one stream's pace is judged; streams may differ."""

    window_seconds: float = 5.0
    """Rates, ages and shares are of the last so many seconds. Above 0."""
    hysteresis_seconds: float = 2.0
    """A plain change of pace shows within this time; what is shorter does not show. 0 or more."""
    tolerance: float = 0.02
    """Share of frames, 0-1, that may be late or lost to overload while the stream still counts as keeping up."""
    max_age_seconds: float = 1.0
    """Live streams: 95 % of published frames must be at most this old."""
    stall_seconds: float = 1.5
    """Shortest silence that counts as a stall. A slow stream gets more: four of its usual frame intervals."""
    offline_seconds: float = 30.0
    """A stream that is down for longer is offline, no longer reconnecting."""
    every: int = 1
    """The stride that was asked for: the model is to see one frame in so many."""
    input_size: tuple[int, int] | None = None
    """Width and height, in pixels, at which the model is to see frames; None while there is no model."""

    def __post_init__(self) -> None:
        if self.window_seconds <= 0:
            raise ValueError(f"window_seconds must be above 0, got {self.window_seconds}")
        if self.hysteresis_seconds < 0:
            raise ValueError(f"hysteresis_seconds must be at least 0, got {self.hysteresis_seconds}")
        if not 0 <= self.tolerance <= 0.5:
            raise ValueError(f"tolerance must be 0 to 0.5, got {self.tolerance}")

    @property
    def recent_seconds(self) -> float:
        """The newest part of the window, from which plain changes are believed: the hysteresis, less reaction time."""
        return min(self.window_seconds, max(0.75 * self.hysteresis_seconds, 2 * self.window_seconds / SUB_WINDOWS))

    @classmethod
    def from_section(
        cls,
        section: KeepupSection,
        deadline_seconds: float | None = None,
        every: int = 1,
        input_size: tuple[int, int] | None = None,
    ) -> KeepupSettings:
        """Return the settings that a configuration's ``keepup`` section asks for.

        A stream with a deadline of its own (seconds) may not be older than that either. ``every``: its stride.
        ``input_size``: the model's full one.
        """
        return cls(
            window_seconds=section.window,
            hysteresis_seconds=section.hysteresis,
            tolerance=section.tolerance,
            max_age_seconds=section.max_age if deadline_seconds is None else min(section.max_age, deadline_seconds),
            every=every,
            input_size=input_size,
        )
