"""Takes frames across all streams, fairly, up to the batch size or the batch deadline."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from pipeline.bounded_queue import BoundedQueue, Policy
from pipeline.clock import monotonic
from pipeline.frame import Frame
from pipeline.infer.batch import Batch


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
        on_expired: Callable[[Frame], None],
    ) -> None:
        """Frames of live streams older than ``max_age_seconds`` are handed to ``on_expired`` instead of a batch."""
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.batch_size = batch_size
        self.deadline_seconds = deadline_seconds
        self.max_age_seconds = max_age_seconds
        self._on_expired = on_expired
        self._lock = threading.Lock()
        self._filled = threading.Condition(self._lock)
        self._queues: OrderedDict[str, BoundedQueue[Frame]] = OrderedDict()
        self._tickets = 0
        self._closed = False

    def add_stream(self, stream_id: str, *, capacity: int, policy: Policy) -> BoundedQueue[Frame]:
        """Return the queue that this stream's frames go into. Closing the queue ends the stream's part."""
        queue: BoundedQueue[Frame] = BoundedQueue(capacity, policy, lock=self._lock, filled=self._filled)
        with self._lock:
            self._queues[stream_id] = queue
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
                queue = self._queues[stream_id]
                frame = self._pop_fresh(queue)
                if frame is None:
                    if queue.closed:
                        del self._queues[stream_id]
                    continue
                self._queues.move_to_end(stream_id)
                frames.append(frame)
                found = True
                if len(frames) == self.batch_size:
                    return

    def _pop_fresh(self, queue: BoundedQueue[Frame]) -> Frame | None:
        while (frame := queue.pop()) is not None:
            if queue.policy == "block" or monotonic() - frame.received_at <= self.max_age_seconds:
                return frame
            self._on_expired(frame)
        return None

    def _more_may_come(self) -> bool:
        return any(not queue.closed or len(queue) for queue in self._queues.values())
