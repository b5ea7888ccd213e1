"""Plays one stream again and again: decides by cause whether and when a failed connection is tried once more."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from pipeline.errors import Cause, SourceError
from pipeline.plan import StreamPlan
from pipeline.retry import Backoff


class KeepTrying:
    """One stream's persistence. Passive: ``run`` works in the caller's thread."""

    def __init__(
        self,
        plan: StreamPlan,
        stopping: threading.Event,
        log: logging.Logger,
        on_waiting: Callable[[SourceError], None],
    ) -> None:
        """``on_waiting`` is told of each failure after which it will be tried again."""
        self._plan = plan
        self._stopping = stopping
        self._log = log
        self._on_waiting = on_waiting
        self._backoff = Backoff(plan.reconnect_max_wait_seconds)
        self._told = ""  # the failure that was logged last: the same one again is not news
        self.failed: SourceError | None = None
        """Why the stream was given up; None while it runs and after a proper end."""

    def run(self, play: Callable[[], None]) -> None:
        """Call ``play``, one connection from opening to its end, until the stream ends, is given up, or stopping."""
        while not self._stopping.is_set():
            try:
                play()
                if not self._plan.loop:
                    return
            except SourceError as error:
                if not self._again_after(error):
                    return
            except Exception as error:  # a fault of this stream's own must stay its own
                self._log.exception("failed unexpectedly")
                if not self._again_after(SourceError(f"{type(error).__name__}: {error}", cause=Cause.FAILED)):
                    return

    def delivering(self) -> None:
        """Pictures come: the next failure is news."""
        self._told = ""

    def held(self) -> None:
        """The connection held long enough to start the ladder anew."""
        self._backoff.reset()

    def _again_after(self, error: SourceError) -> bool:
        """Wait as the cause asks; return False when the stream is given up or stopping."""
        if self._stopping.is_set():
            return False
        if not (self._plan.endless and self._plan.reconnect):
            self.failed = error
            self._log.error("%s: %s", error.cause.value, error)
            return False
        wait_seconds = self._backoff.wait_seconds(error.cause)
        self._on_waiting(error)
        level = logging.WARNING if self._told != str(error) else logging.DEBUG
        self._told = str(error)
        self._log.log(level, "%s: %s Trying again, next in %.1f s.", error.cause.value, _sentence(error), wait_seconds)
        return not self._stopping.wait(wait_seconds)


def _sentence(error: SourceError) -> str:
    text = str(error)
    return text if text.endswith(".") else f"{text}."
