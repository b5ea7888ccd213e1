"""Pictures of a worker's streams for the live view, which its parent serves."""

from __future__ import annotations

import threading

from pipeline.dashboard.preview import Preview
from pipeline.workers import notes, orders
from pipeline.workers.channel import Channel


class Lookers:
    """Whoever looks at streams of this worker: each has a thread that hands pictures to the parent."""

    def __init__(self, preview: Preview, channel: Channel) -> None:
        self._preview = preview
        self._channel = channel
        self._away: dict[int, threading.Event] = {}

    def look(self, order: orders.Look) -> None:
        """Send pictures from now on."""
        away = self._away[order.number] = threading.Event()
        threading.Thread(target=self._show, args=(order, away), name="look", daemon=True).start()

    def look_away(self, number: int) -> None:
        """Send no more."""
        away = self._away.pop(number, None)
        if away is not None:
            away.set()

    def close(self) -> None:
        """Send nobody any more."""
        for number in list(self._away):
            self.look_away(number)

    def _show(self, order: orders.Look, away: threading.Event) -> None:
        with self._preview.watch(order.stream_ids, order.width, of=order.of) as viewer:
            while not away.wait(self._preview.look_seconds):
                for picture in viewer.take():
                    seen = notes.Seen(order.number, picture.stream_id, picture.message, picture.jpeg)
                    self._channel.note(seen, droppable=True)
