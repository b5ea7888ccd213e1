"""The part of the verdict that connections decide. It changes at once: whoever reports a state knows it."""

from __future__ import annotations

from typing import Literal

from pipeline.errors import Cause
from pipeline.keepup.cause import CauseLine, connection_cause
from pipeline.publish.messages import Verdict

State = Literal["connecting", "live", "waiting", "paused", "ended"]

LASTING = frozenset({Cause.UNAUTHORISED, Cause.NOT_FOUND, Cause.UNSUPPORTED})
"""Causes that do not pass by waiting: somebody has to do something."""


class Connection:
    """One stream's connection. Not thread-safe. Times are monotonic seconds."""

    def __init__(self, offline_seconds: float) -> None:
        self.state: State = "connecting"
        self.live_since: float | None = None
        """When the present connection was made; None while there is none."""
        self.reconnects = 0
        """Connections made after the first."""
        self.last_error = ""
        self._offline_seconds = offline_seconds
        self._cause: Cause | None = None
        self._down_since: float | None = None
        self._was_live = False

    def report(self, state: State, now: float, *, cause: Cause | None, error: str) -> bool:
        """Take in a state. Return whether a new connection was made."""
        made = state == "live" and self.live_since is None
        self.state = state
        if state == "live":
            if made:
                self.reconnects += self._was_live
                self.live_since = now
            self._was_live = True
            self._down_since = None
            self._cause, self.last_error = None, ""
            return made
        self.live_since = None
        if state == "paused":  # it was asked for: what comes after it is no reconnection
            self._was_live, self._down_since, self._cause, self.last_error = False, None, None, ""
            return False
        if cause is not None or error:
            self._cause, self.last_error = cause, error
        if state == "waiting" and self._down_since is None:
            self._down_since = now
        return False

    def verdict(self, now: float) -> Verdict | None:
        """Return what the connection alone decides; None while it is live, and pace is what matters."""
        if self.state == "live":
            return None
        if self.state in ("ended", "paused"):
            return self.state
        if self._down_since is None:
            return "reconnecting" if self._was_live else "starting"
        long = now - self._down_since >= self._offline_seconds
        return "offline" if long or not self._was_live or self._cause in LASTING else "reconnecting"

    def cause(self) -> CauseLine:
        """Return why the stream is not connected."""
        if self._cause is None and not self.last_error:
            return CauseLine("", "connecting" if self.state == "connecting" else "")
        return connection_cause(self._cause, self.last_error)
