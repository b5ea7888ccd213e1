"""Leaves frames out that nobody asked for: those above a rate, and all but every n-th."""

from __future__ import annotations

_JITTER_SECONDS = 0.01
"""A frame that comes so much early still counts as due."""


class Thinning:
    """What of one stream goes on at all. One thread asks; any other may change ``max_fps`` and ``every`` meanwhile.

    Over many frames ``max_fps`` a second go on, as evenly as they come and whatever the camera's rate, and of those
    every n-th, the first one included. Times are seconds of any clock that goes with the pictures; a pause or leap of
    it starts the rate anew.
    """

    def __init__(self, max_fps: float | None = None, every: int = 1) -> None:
        self.max_fps = max_fps
        """Frames a second; None lets all through."""
        self.every = every
        self._due = float("-inf")
        self._since: int | None = None
        """Frames left out by the stride since the last one that went on; None before the first."""

    @property
    def is_idle(self) -> bool:
        """Whether every frame goes on."""
        return self.max_fps is None and self.every == 1

    def begin(self) -> None:
        """Let the next frame that the rate allows go on: another connection is another picture story."""
        self._since = None

    def would_leave_out(self, time_seconds: float) -> str:
        """Return why a frame of this time would be left out if it came now, "rate" or "stride"; empty if it would not.

        Nothing is counted. Frames that are decided on meanwhile make no difference where they are not newer.
        """
        if not self._rate_allows(time_seconds):
            return "rate"
        return "" if self._since is None or self._since + 1 >= self.every else "stride"

    def leave_out(self, time_seconds: float) -> str:
        """Decide on a frame, and count it: return why it is left out; empty where it goes on."""
        reason = self.would_leave_out(time_seconds)
        if reason == "rate":
            return reason
        if self.max_fps is not None:
            self._due = self._due_near(time_seconds) + 1.0 / self.max_fps
        self._since = self._since + 1 if reason and self._since is not None else 0
        return reason

    def _rate_allows(self, time_seconds: float) -> bool:
        if self.max_fps is None:
            return True
        early = min(0.5 / self.max_fps, _JITTER_SECONDS)
        return time_seconds >= self._due_near(time_seconds) - early

    def _due_near(self, time_seconds: float) -> float:
        """Return when the next frame is due; at once after a pause or leap of the clock."""
        interval = 1.0 / (self.max_fps or 1.0)
        return self._due if self._due - 2 * interval <= time_seconds <= self._due + interval else time_seconds
