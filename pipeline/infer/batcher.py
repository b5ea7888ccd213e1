"""Takes frames across all streams, shared out by weight, up to the batch size or the batch deadline."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pipeline.bounded_queue import Arrivals, BoundedQueue, Policy
from pipeline.clock import monotonic
from pipeline.errors import StageError
from pipeline.frame import Frame
from pipeline.infer.batch import Batch
from pipeline.infer.outlook import Outlook
from pipeline.infer.terms import Terms, TimeToPublish
from pipeline.infer.turns import Turns
from pipeline.infer.waiting import Waiting


class Batcher:
    """Shares capacity out among the streams' queues: first to those below their ``min_fps``, then by weight.

    With equal weights that is round robin: however fast the others are, each stream has its turn. Thread-safe: several
    slots take at the same time. Each ``take`` hands out the next ticket, and a stream's frames come out in the order
    in which they went in.
    """

    def __init__(
        self,
        *,
        batch_size: int,
        deadline_seconds: float,
        max_age_seconds: float,
        on_drop: Callable[[Frame, str], None],
    ) -> None:
        """Frames of live streams that are too late go to ``on_drop`` with the reason, instead of into a batch.

        "stale": waited longer than ``max_age_seconds``, or under overload overtaken by a fresher one. "deadline": could
        not be published within the stream's deadline any more, as long as frames take now.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.batch_size = batch_size
        self.deadline_seconds = deadline_seconds
        self.max_age_seconds = max_age_seconds
        self.time_to_publish = TimeToPublish()
        """Whoever publishes reports here."""
        self._on_drop = on_drop
        self._lock = threading.Lock()
        self._filling = threading.Lock()
        self._arrivals = Arrivals(self._lock)
        self._streams: list[Waiting] = []
        self._turns = Turns()
        self._tickets = 0
        self._closed = False
        self._ended = False

    def add_stream(
        self, capacity: int, policy: Policy, terms: Terms | None = None, outlook: Outlook | None = None
    ) -> BoundedQueue[Frame]:
        """Return the queue that this stream's frames go into. Closing the queue ends the stream's part.

        ``outlook``: what the stream's own thread is to know of what is taken.
        Raises StageError when it is too late: everything has been taken, and ``take`` said so.
        """
        queue: BoundedQueue[Frame] = BoundedQueue(capacity, policy, lock=self._lock, arrivals=self._arrivals)
        with self._lock:
            if self._ended:
                raise StageError("all streams have ended, and no further one can be taken", stage="infer")
            self._streams.append(Waiting(queue, terms or Terms(), self.time_to_publish, outlook))
        return queue

    def change_terms(self, queue: BoundedQueue[Frame], terms: Terms) -> None:
        """Let a stream, known by its queue, have other terms from now on."""
        with self._lock:
            for stream in self._streams:
                if stream.queue is queue:
                    stream.change_terms(terms, monotonic())

    def remove_stream(self, queue: BoundedQueue[Frame]) -> None:
        """Forget a stream whose queue is closed and empty."""
        with self._lock:
            self._streams = [stream for stream in self._streams if stream.queue is not queue]
            self._arrivals.wake()

    def close(self) -> None:
        """End with the streams: ``take`` returns None once every queue is closed and empty."""
        with self._lock:
            self._closed = True
            self._arrivals.wake()

    def take(
        self, most: int | None = None, retired: threading.Event | None = None, *, runs: int = 1, takers: int = 1
    ) -> Batch | None:
        """Return the next batch, waiting for one; None when everything has been taken and nothing more will come.

        ``most`` frames fill it (default: ``batch_size``). With ``runs`` it may hold that many times more, as far as
        they wait already: its share of them where there are several ``takers``. None, too, once ``retired`` is set: the
        caller is to take no more; see ``wake``.
        """
        # A slot that waits for its batch to fill holds frames: no other may take later ones with an earlier ticket.
        with self._filling, self._lock:
            most = most or self.batch_size
            frames: list[Frame] = []
            passing: list[Frame] = []
            deadline: float | None = None
            awaited = False
            if (seconds := self._fresher_within()) > 0:
                self._arrivals.wait(1, seconds)
            while True:
                if not frames and retired is not None and retired.is_set():
                    return None
                self._collect(frames, passing, most, awaited=awaited)
                if len(frames) >= most or (passing and not frames):
                    break
                now = monotonic()
                if frames:
                    deadline = deadline or now + self.deadline_seconds
                    if now >= deadline or not self._more_may_come():
                        break
                    self._arrivals.wait(most - len(frames), deadline - now)
                    awaited = True  # every queue was empty
                elif self._closed and not self._more_may_come():
                    self._ended = True
                    self._arrivals.wake()
                    return None
                else:
                    self._arrivals.wait(1, 0.5)
            if runs > 1 and len(frames) == most:
                waiting = sum(len(stream.items) for stream in self._streams)
                self._collect(frames, passing, min(runs * most, most + waiting // takers), awaited=awaited)
            self._tickets += 1
            return Batch(self._tickets - 1, frames, monotonic(), passing)

    def wake(self) -> None:
        """Have those who wait in ``take`` look whether they are retired."""
        with self._lock:
            self._arrivals.wake()

    def _collect(self, frames: list[Frame], passing: list[Frame], most: int, *, awaited: bool) -> None:
        """Move frames into ``frames``, each of the stream whose turn it is: up to ``most``, or what waits.

        ``awaited``: they came while ``frames`` had room for them.

        Those that a stride leaves out go into ``passing``: they take no place in the batch, and are nobody's turn.
        """
        now = monotonic()
        while len(frames) < most and (stream := Turns.next_of(self._streams, now)) is not None:
            popped = stream.pop(now, self.max_age_seconds, awaited=awaited)
            for late, reason in popped.given_up:
                self._on_drop(late, reason)
            passing.extend(popped.passing)
            if popped.frame is not None:
                self._turns.served(stream, self._streams, now)
                frames.append(popped.frame)

    def _fresher_within(self) -> float:
        """Return how long to wait for a fresher frame before taking one; 0 where other streams wait, too."""
        waiting = [stream for stream in self._streams if stream.items]
        return waiting[0].fresher_within(monotonic()) if len(waiting) == 1 else 0.0

    def _more_may_come(self) -> bool:
        return any(not stream.queue.closed or len(stream.queue) for stream in self._streams)
