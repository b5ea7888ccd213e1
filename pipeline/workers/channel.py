"""A worker's end. Writing never waits: what the parent does not take in time is kept, then lost and counted."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

from pipeline.clock import monotonic
from pipeline.publish.sink import Encoded
from pipeline.workers import notes, orders
from pipeline.workers.wire import NOTE, RECEIVE_BYTES, Frames, detections_frame, frame

MOST_PENDING_BYTES = 16 * 1024 * 1024
"""Messages that may wait for a parent that is held up: 15,000 of 1 kB, 20 s of 25 cameras."""

_SEND_BUFFER_BYTES = 4 * 1024 * 1024
"""Asked of the kernel, which gives what ``net.core.wmem_max`` allows."""
_FLUSH_POLL_SECONDS = 0.01


class Channel:
    """Thread-safe for writing; one thread reads."""

    def __init__(self, file_descriptor: int) -> None:
        os.set_inheritable(file_descriptor, False)  # or whatever we start would keep the line open after our death
        self._socket = socket.socket(fileno=file_descriptor)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        self._lock = threading.Lock()
        self._pending = bytearray()
        self._gathered: list[bytes] = []
        self.lost = 0
        """Detections that the parent was too slow to take."""

    def detections(self, message: Encoded) -> None:
        """Gather one message for the next ``flush``: a call of the kernel for each would let go of Python's lock."""
        gathered = detections_frame(message)
        with self._lock:
            self._gathered.append(gathered)

    def note(self, note: notes.Note, *, droppable: bool = False) -> None:
        """Say something, after all that was gathered. ``droppable``: may be left out where the parent is held up."""
        said = frame(NOTE, notes.encode(note))
        with self._lock:
            self._write_gathered()
            self._write(said, droppable=droppable)

    def orders(self) -> Iterator[Any]:
        """Yield the parent's orders, waiting for them. Ends when the parent is gone."""
        frames = Frames()
        while True:
            try:
                data = self._socket.recv(RECEIVE_BYTES)
            except ConnectionError:
                return
            if not data:
                return
            for _, body in frames.feed(data):
                yield orders.decode(body)

    def flush(self, timeout_seconds: float = 0.0) -> bool:
        """Write what was gathered and what is pending; return whether nothing is left."""
        until = monotonic() + timeout_seconds
        while not self._flush() and monotonic() < until:
            threading.Event().wait(_FLUSH_POLL_SECONDS)
        return not self._pending

    def _flush(self) -> bool:
        with self._lock:
            return self._write(b"", droppable=False) if not self._gathered else self._write_gathered()

    def _write_gathered(self) -> bool:
        """Return whether nothing is left to write."""
        gathered, self._gathered = self._gathered, []
        if gathered and not self._write(b"".join(gathered), droppable=True):
            self.lost += len(gathered)
        return not self._pending

    def _write(self, data: bytes, *, droppable: bool) -> bool:
        """Return whether it was taken: written, or kept; for no data, whether nothing is left to write.

        The lock is held.
        """
        if self._pending:
            del self._pending[: self._send(self._pending)]
            if droppable and len(self._pending) > MOST_PENDING_BYTES:
                return False
        if self._pending:
            self._pending += data
            return bool(data)
        sent = self._send(data) if data else 0
        if sent < len(data):
            self._pending += data[sent:]
        return True

    def _send(self, data: bytes | bytearray) -> int:
        try:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        except OSError:
            return len(data)  # the parent is gone, and so shall we be: whoever reads orders sees to it
