"""A queue with a size and a policy; whoever puts is told what had to go, and counts it."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, Literal, TypeVar

from pipeline.clock import monotonic

Item = TypeVar("Item")
Policy = Literal["block", "drop_oldest"]


class Arrivals:
    """Wakes whoever waits for items of several queues, once there are enough: every waking costs. One waits at a time.

    ``lock`` is those queues' and is held around every call.
    """

    def __init__(self, lock: threading.Lock) -> None:
        self._changed = threading.Condition(lock)
        self._missing = 0

    def wait(self, items: int, timeout_seconds: float | None) -> None:
        """Wait until so many more came, one of the queues is pressed, ``wake`` is called or the time is up."""
        self._missing = items
        self._changed.wait(timeout_seconds)

    def came(self, *, pressed: bool) -> None:
        """One item came; ``pressed``: its queue should not wait for more."""
        self._missing -= 1
        if pressed or self._missing <= 0:
            self._changed.notify()

    def wake(self) -> None:
        """Have whoever waits look again."""
        self._changed.notify_all()


class BoundedQueue(Generic[Item]):
    """At most ``capacity`` items. Full, it makes the producer wait (``block``) or drops the oldest (``drop_oldest``).

    Thread-safe. Queues made with the same ``lock`` and ``arrivals`` can be watched by one consumer, which waits for
    ``arrivals`` and calls ``pop`` while it holds the lock.
    """

    def __init__(
        self,
        capacity: int,
        policy: Policy,
        *,
        lock: threading.Lock | None = None,
        arrivals: Arrivals | None = None,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self.capacity = capacity
        self.policy = policy
        self.items: deque[Item] = deque()
        """What waits, oldest first. To be looked at only while holding the shared lock."""
        self._closed = False
        self._blocked = False
        self._lock = lock or threading.Lock()
        self._arrivals = arrivals or Arrivals(self._lock)
        self._drained = threading.Condition(self._lock)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def closed(self) -> bool:
        """No more items will come; those inside can still be taken."""
        return self._closed

    def put(self, item: Item, stopping: threading.Event | None = None) -> list[Item]:
        """Add ``item``; return what had to go for it: the oldest ones, or ``item`` itself once the queue is closed.

        Under ``block`` waits for room, and gives up (returning ``item``) when the queue closes or ``stopping`` is set.
        """
        with self._lock:
            if self.policy == "block":
                while len(self.items) >= self.capacity and not self._closed:
                    if stopping is not None and stopping.is_set():
                        return [item]
                    self._blocked = True
                    self._drained.wait(0.2)
            if self._closed:
                return [item]
            evicted = []
            while len(self.items) >= self.capacity:
                evicted.append(self.items.popleft())
            self.items.append(item)
            # In a queue that drops a second item is the beginning of a burst: the rest of it has to last until whoever
            # is woken comes.
            many = self.capacity if self.policy == "block" else min(2, self.capacity)
            self._arrivals.came(pressed=len(self.items) >= many)
            return evicted

    def take(self, timeout_seconds: float | None = None) -> Item | None:
        """Return the oldest item, waiting for one; None when the time is up or the queue is closed and empty."""
        until = None if timeout_seconds is None else monotonic() + timeout_seconds
        with self._lock:
            while not self.items and not self._closed:
                left = None if until is None else until - monotonic()
                if left is not None and left <= 0:
                    break
                self._arrivals.wait(1, left)
            return self.pop()

    def pop(self) -> Item | None:
        """Return the oldest item or None, at once. The caller holds the shared lock."""
        if not self.items:
            return None
        item = self.items.popleft()
        if self._blocked and 2 * len(self.items) <= self.capacity:
            self._blocked = False
            self._drained.notify_all()
        return item

    def close(self) -> None:
        """Let no more items in. Closing twice is safe."""
        with self._lock:
            self._closed = True
            self._arrivals.wake()
            self._drained.notify_all()
