"""Lets at most so many frames a second through, as evenly as they come."""

from __future__ import annotations

_JITTER_SECONDS = 0.01
"""A frame that comes so much early still counts as due."""


class RateLimit:
    """One stream's limit. One thread asks; any other may change ``max_fps`` meanwhile."""

    def __init__(self, max_fps: float | None = None) -> None:
        self.max_fps = max_fps
        """Frames a second; None lets all through."""
        self._due = float("-inf")

    def passes(self, time_seconds: float) -> bool:
        """Whether the frame of this time, on any clock that goes with the pictures, may go on.

        Over many frames ``max_fps`` do, whatever the camera's rate. A pause or a leap of its clock starts it anew.
        """
        if self.max_fps is None:
            return True
        interval = 1.0 / self.max_fps
        if not self._due - 2 * interval <= time_seconds <= self._due + interval:
            self._due = time_seconds
        if time_seconds < self._due - min(interval / 2, _JITTER_SECONDS):
            return False
        self._due += interval
        return True
