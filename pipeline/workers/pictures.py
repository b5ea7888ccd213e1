"""The live view's pictures of streams that play in workers: those make them, and nobody does while nobody looks."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from pipeline.dashboard.preview import Picture, Viewer
from pipeline.workers import notes, orders
from pipeline.workers.accounts import Accounts
from pipeline.workers.worker import Worker


class RemotePreview:
    """As ``Preview``. Thread-safe."""

    look_seconds = 0.05
    """Between two looks of a viewer."""

    def __init__(self, accounts: Accounts, workers: Sequence[Worker], *, most_fps: float) -> None:
        """``most_fps``: of one stream; 0 shows no pictures at all."""
        self._accounts = accounts
        self._workers = workers
        self._most_fps = most_fps
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._viewers: dict[int, tuple[Viewer, tuple[str, ...]]] = {}

    @contextmanager
    def watch(self, stream_ids: Iterable[str], width: int) -> Iterator[Viewer]:
        """Look at these streams about ``width`` pixels wide."""
        wanted = tuple(dict.fromkeys(stream_ids))
        number, viewer = next(self._numbers), Viewer(width, self._most_fps)
        with self._lock:
            self._viewers[number] = (viewer, wanted)
        for worker in self._workers:
            for look in self.looks(worker.number, only=number):
                worker.order(look)
        try:
            yield viewer
        finally:
            with self._lock:
                del self._viewers[number]
            for worker in self._workers:
                worker.order(orders.LookAway(number))

    def put(self, seen: notes.Seen) -> None:
        """A picture came."""
        with self._lock:
            watching = self._viewers.get(seen.number)
        if watching is not None:
            watching[0].put(Picture(seen.stream_id, seen.message, seen.jpeg))

    def looks(self, worker: int, only: int | None = None) -> list[orders.Look]:
        """Return what a worker has to be told: of all that look, or of one."""
        its = {account.plan.stream_id for account in self._accounts.of(worker)}
        with self._lock:
            viewers = list(self._viewers.items())
        return [
            orders.Look(number, seen, viewer.width, len(wanted))
            for number, (viewer, wanted) in viewers
            if only in (None, number) and (seen := tuple(one for one in wanted if one in its))
        ]

    def close(self) -> None:
        """Nothing to give back: the workers have what there is."""
