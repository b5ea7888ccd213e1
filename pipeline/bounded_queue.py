"""A queue with a size, a policy and a counter."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, Literal, TypeVar

Item = TypeVar("Item")
Policy = Literal["block", "drop_oldest"]


class BoundedQueue(Generic[Item]):
    """At most ``capacity`` items. Full, it makes the producer wait (``block``) or drops the oldest (``drop_oldest``).

    Thread-safe. Several queues may share one ``condition``, so that one consumer can wait for any of them; whoever
    shares it may hold it while calling.
    """

    def __init__(self, capacity: int, policy: Policy, condition: threading.Condition | None = None) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self.capacity = capacity
        self.policy = policy
        self._items: deque[Item] = deque()
        self._closed = False
        self._changed = condition or threading.Condition()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def closed(self) -> bool:
        """No more items will come; those inside can still be taken."""
        return self._closed

    @property
    def finished(self) -> bool:
        """Closed and empty."""
        return self._closed and not self._items

    def put(self, item: Item, stopping: threading.Event | None = None) -> list[Item]:
        """Add ``item``; return what had to go for it: the oldest ones, or ``item`` itself once the queue is closed.

        Under ``block`` waits for room, and gives up (returning ``item``) when the queue closes or ``stopping`` is set.
        """
        with self._changed:
            if self.policy == "block":
                while len(self._items) >= self.capacity and not self._closed:
                    if stopping is not None and stopping.is_set():
                        return [item]
                    self._changed.wait(0.1)
            if self._closed:
                return [item]
            evicted = []
            while len(self._items) >= self.capacity:
                evicted.append(self._items.popleft())
            self._items.append(item)
            self._changed.notify_all()
            return evicted

    def take(self, timeout_seconds: float | None = None) -> Item | None:
        """Return the oldest item, waiting for one; None when the time is up or the queue is finished."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed, timeout_seconds)
            return self.take_now()

    def take_now(self) -> Item | None:
        """Return the oldest item, or None at once."""
        with self._changed:
            if not self._items:
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """Let no more items in. Closing twice is safe."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def clear(self) -> list[Item]:
        """Empty the queue; return what was inside."""
        with self._changed:
            items = list(self._items)
            self._items.clear()
            self._changed.notify_all()
            return items
