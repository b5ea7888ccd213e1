"""Puts batches that finished in any order back into the order in which they were taken."""

from __future__ import annotations

import threading

from pipeline.infer.batch import Batch


class InOrder:
    """Finished batches go in as slots finish, and come out by ticket. Thread-safe."""

    def __init__(self) -> None:
        self._finished: dict[int, Batch] = {}
        self._next = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, batch: Batch) -> None:
        """Hand in a finished (or failed) batch: every ticket must come, or the later ones wait for it."""
        with self._changed:
            self._finished[batch.ticket] = batch
            if batch.ticket == self._next:
                self._changed.notify()

    def take(self, timeout_seconds: float) -> Batch | None:
        """Return the batch whose turn it is; None when the time is up or nothing is left after ``close``."""
        with self._changed:
            self._changed.wait_for(lambda: self._next in self._finished or self._closed, timeout_seconds)
            batch = self._finished.pop(self._next, None)
            if batch is not None:
                self._next += 1
            return batch

    def close(self) -> None:
        """Nothing more comes in."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def finished(self) -> bool:
        """Closed, and everything was taken."""
        with self._changed:
            return self._closed and self._next not in self._finished
