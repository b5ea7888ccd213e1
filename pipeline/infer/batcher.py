"""Takes frames across all streams, fairly, up to the batch size or the batch deadline."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from pipeline.bounded_queue import BoundedQueue, Policy
from pipeline.clock import monotonic
from pipeline.frame import Frame
from pipeline.infer.batch import Batch

_PATIENCE_SECONDS = 0.25
_SHEDDING_SECONDS = 1.0


class _Waiting:
    """One stream's queue, and whether its frames only pass through it or stand in it.

    A burst or a hiccup fills the queue for a moment and loses nothing: frames are taken in order. A queue that has not
    been empty for a while is standing: the stream brings more than can be run, and whoever waits in order is late for
    ever. Then only the freshest frame is taken, until no frame had to go for a while. (The idea of controlled delay,
    CoDel, RFC 8289: judge a queue by its minimum over time, not by its length.)
    """

    def __init__(self, queue: BoundedQueue[Frame]) -> None:
        self.queue = queue
        self._standing_since: float | None = None
        self._shed_until = 0.0

    def pop(self, max_age_seconds: float) -> tuple[Frame | None, list[Frame]]:
        """Return the frame whose turn it is, and those that are given up for it. The lock is held."""
        queue = self.queue
        frame = queue.pop()
        if frame is None or queue.policy == "block":
            return frame, []
        now = monotonic()
        stale: list[Frame] = []
        if not len(queue):
            self._standing_since = None
        elif self._standing_since is None:
            self._standing_since = now
        standing = self._standing_since is not None and now - self._standing_since > _PATIENCE_SECONDS
        if standing or now < self._shed_until:
            while len(queue) and frame is not None:
                stale.append(frame)
                self._shed_until = now + _SHEDDING_SECONDS
                frame = queue.pop()
        while frame is not None and now - frame.received_at > max_age_seconds:
            stale.append(frame)
            frame = queue.pop()
        return frame, stale


class Batcher:
    """Round robin over the streams' queues: whoever was served last waits longest, however fast the others are.

    Thread-safe: several slots take at the same time. Each ``take`` hands out the next ticket, and a stream's frames
    come out in the order in which they went in.
    """

    def __init__(
        self,
        *,
        batch_size: int,
        deadline_seconds: float,
        max_age_seconds: float,
        on_stale: Callable[[Frame], None],
    ) -> None:
        """Frames of live streams that are too late go to ``on_stale`` instead of a batch.

        Too late are those older than ``max_age_seconds``, and under overload those that a fresher one overtakes.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.batch_size = batch_size
        self.deadline_seconds = deadline_seconds
        self.max_age_seconds = max_age_seconds
        self._on_stale = on_stale
        self._lock = threading.Lock()
        self._filled = threading.Condition(self._lock)
        self._queues: OrderedDict[str, _Waiting] = OrderedDict()
        self._tickets = 0
        self._closed = False

    def add_stream(self, stream_id: str, *, capacity: int, policy: Policy) -> BoundedQueue[Frame]:
        """Return the queue that this stream's frames go into. Closing the queue ends the stream's part."""
        queue: BoundedQueue[Frame] = BoundedQueue(capacity, policy, lock=self._lock, filled=self._filled)
        with self._lock:
            self._queues[stream_id] = _Waiting(queue)
        return queue

    def close(self) -> None:
        """No more streams will be added: ``take`` returns None once every queue is closed and empty."""
        with self._lock:
            self._closed = True
            self._filled.notify_all()

    def take(self) -> Batch | None:
        """Return the next batch, waiting for one; None when everything has been taken and nothing more will come."""
        with self._lock:
            frames: list[Frame] = []
            deadline: float | None = None
            while True:
                self._collect(frames)
                if len(frames) >= self.batch_size:
                    break
                now = monotonic()
                if frames:
                    deadline = deadline or now + self.deadline_seconds
                    if now >= deadline or not self._more_may_come():
                        break
                    self._filled.wait(deadline - now)
                elif self._closed and not self._more_may_come():
                    self._filled.notify_all()
                    return None
                else:
                    self._filled.wait(0.5)
            self._tickets += 1
            return Batch(self._tickets - 1, frames)

    def _collect(self, frames: list[Frame]) -> None:
        """Move one frame a stream and round into ``frames`` until it is full or nothing waits."""
        found = True
        while found and len(frames) < self.batch_size:
            found = False
            for stream_id in list(self._queues):
                waiting = self._queues[stream_id]
                frame, stale = waiting.pop(self.max_age_seconds)
                for late in stale:
                    self._on_stale(late)
                if frame is None:
                    if waiting.queue.closed:
                        del self._queues[stream_id]
                    continue
                self._queues.move_to_end(stream_id)
                frames.append(frame)
                found = True
                if len(frames) == self.batch_size:
                    return

    def _more_may_come(self) -> bool:
        return any(not waiting.queue.closed or len(waiting.queue) for waiting in self._queues.values())
