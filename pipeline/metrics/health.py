"""Whether the process is alive, ready and well: three questions that different machines ask for different reasons.

A supervisor restarts what is not *alive*, a load balancer leaves alone what is not *ready*, people look at how it *is*.
A dead camera concerns only the last: restarting us would not bring it back, and would take the others down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pipeline
from pipeline.clock import monotonic
from pipeline.keepup.status import process_status
from pipeline.metrics.watched import Watched, WorkerFacts
from pipeline.source.redact import redact

STUCK_SECONDS = 10.0
"""The publish thread comes round ten times a second; one that did not for so long hangs."""


_RUN_PATIENCE = 3.0
"""A run of the model may take so many times as long as the publish thread: large models on small machines do."""


class Answer(NamedTuple):
    """Yes or no, and why."""

    ok: bool
    words: str


class Health:
    """Answers for one pipeline. Thread-safe."""

    def __init__(
        self,
        watched: Callable[[], Watched | None],
        stuck_seconds: float = STUCK_SECONDS,
        workers: Callable[[], Sequence[WorkerFacts]] = tuple,
    ) -> None:
        self._watched = watched
        self._workers = workers
        self._stuck_seconds = stuck_seconds

    def alive(self) -> Answer:
        """Whether the process does its work; if not, only a restart helps."""
        watched = self._watched()
        if watched is None:
            return Answer(True, "starting")
        if watched.failure is not None:
            return Answer(False, f"failed: {type(watched.failure).__name__}")
        ticked_at = watched.ticked_at()
        silent = 0.0 if ticked_at is None else monotonic() - ticked_at
        if silent > self._stuck_seconds:
            return Answer(False, f"the publish thread has not come round for {silent:.0f} s")
        if stuck := watched.stuck(_RUN_PATIENCE * self._stuck_seconds):
            return Answer(False, stuck)
        return Answer(True, "alive")

    def ready(self) -> Answer:
        """Whether results come: the model is loaded, the publisher bound, and nobody asked it to stop."""
        watched = self._watched()
        if watched is None:
            return Answer(False, "starting: the model is being loaded")
        if watched.draining():
            return Answer(False, "stopping")
        workers = self._workers()
        if workers and not any(worker.up for worker in workers):
            return Answer(False, next((worker.cause for worker in workers if worker.cause), "no worker is up"))
        alive = self.alive()
        return Answer(True, "ready") if alive.ok else alive

    def report(self) -> dict[str, Any]:
        """Return how the process and every stream is, as plain data without secrets."""
        watched = self._watched()
        streams = [] if watched is None else watched.status()
        alive, ready, worst = self.alive(), self.ready(), process_status(streams)
        return {
            "onpace": pipeline.__version__,
            "alive": alive.ok,
            "ready": ready.ok,
            "reason": alive.words if not alive.ok else ready.words,
            "verdict": worst.verdict,
            "worst_stream": worst.stream_id,
            "cause": _safe(worst.cause),
            "workers": [
                {"worker": one.number, "up": one.up, "cause": _safe(one.cause), "restarts": sum(one.restarts.values())}
                for one in self._workers()
            ],
            "streams": [
                {
                    "id": stream.stream_id,
                    "state": stream.state,
                    "verdict": stream.verdict,
                    "cause": _safe(stream.cause),
                    "last_error": _safe(stream.last_error),
                    "reconnects": stream.reconnects,
                    "received": stream.ledger.received,
                    "published": stream.ledger.published,
                    "dropped": stream.ledger.dropped_total,
                }
                for stream in streams
            ],
        }


def _safe(text: str) -> str:
    """Return ``text`` with every address in it redacted once more: whoever wrote it may have forgotten."""
    return " ".join(redact(word) if "://" in word else word for word in text.split(" "))
