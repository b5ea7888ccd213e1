"""Puts batches that finished in any order back into the order in which they were taken."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

from pipeline.infer.batch import Batch

MOST_WAITING = 64
"""Batches that may wait for their turn. Each holds its frames' pictures: slow delivery must hold the slots up."""


class InOrder:
    """Finished batches go in as slots finish, and are delivered by ticket, one at a time. Thread-safe.

    Whoever brings the batch whose turn it is delivers it, and those that waited behind it. A thread of its own for
    that would have to be woken for every batch, which costs more than most deliveries.
    """

    def __init__(self, deliver: Callable[[Batch], None], *, producers: int, most_waiting: int = MOST_WAITING) -> None:
        """``deliver`` is called from the threads that ``put``, never twice at a time; its exceptions are theirs.

        Once all ``producers`` have left, nothing more comes in.
        """
        self._deliver = deliver
        self._producers = producers
        self._most_waiting = most_waiting
        self._finished: dict[int, Batch] = {}
        self._next = 0
        self._delivering = False
        self._closed = False
        self._changed = threading.Condition()

    def put(self, batch: Batch) -> None:
        """Hand in a finished (or failed) batch: every ticket must come, or the later ones wait for it for ever.

        Waits while too many are there already, but never with the batch whose turn it is.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._has_room_for(batch) or self._closed)
            self._finished[batch.ticket] = batch
            if self._delivering:
                return
            self._delivering = True
        try:
            while (ready := self._next_ready()) is not None:
                self._deliver(ready)
        except BaseException:
            with self._changed:
                self._delivering = False
            raise

    def join(self, producers: int) -> bool:
        """So many more will put batches. Return False where it is too late: all others have left."""
        with self._changed:
            if self._closed:
                return False
            self._producers += producers
            return True

    def leave(self) -> None:
        """One producer has put its last batch."""
        with self._changed:
            self._producers -= 1
            last = not self._producers
        if last:
            self.close()

    def close(self) -> None:
        """Nothing more comes in."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wait_until_finished(self, timeout_seconds: float) -> bool:
        """Wait until everything was delivered and nothing more comes; return whether that is so."""
        if sys.version_info < (3, 11):
            # There timed waits go by the system clock: set back meanwhile, it would hold the caller up as long.
            time.sleep(timeout_seconds)
            timeout_seconds = 0.0
        with self._changed:
            return self._changed.wait_for(self._is_finished, timeout_seconds)

    def _next_ready(self) -> Batch | None:
        """Return the batch whose turn it is; without one, stop delivering in the same breath."""
        with self._changed:
            batch = self._finished.pop(self._next, None)
            if batch is None:
                self._delivering = False
                if self._closed:
                    self._changed.notify_all()
            else:
                self._next += 1
                if len(self._finished) + 1 >= self._most_waiting:
                    self._changed.notify_all()
            return batch

    def _has_room_for(self, batch: Batch) -> bool:
        return len(self._finished) < self._most_waiting or batch.ticket <= self._next

    def _is_finished(self) -> bool:
        return self._closed and not self._delivering and self._next not in self._finished
