"""Messages for whoever watches over HTTP: the same that subscribers get, while somebody is there to read them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from pipeline.publish.messages import DetectionsMessage, Message

_MOST_WAITING = 4096
"""Messages that wait for one reader; one that is slower loses the oldest."""


class Reader:
    """One who reads along."""

    def __init__(self, kinds: Collection[str], streams: Collection[str]) -> None:
        self._detections = "detections" in kinds
        self._statuses = "status" in kinds
        self._streams = frozenset(streams)
        self._messages: deque[Message] = deque(maxlen=_MOST_WAITING)

    def put(self, message: Message) -> None:
        """Leave a message if the reader asked for such."""
        wanted = self._detections if isinstance(message, DetectionsMessage) else self._statuses
        if wanted and (not self._streams or message.stream_id in self._streams):
            self._messages.append(message)

    def wants_detections(self, stream_id: str) -> bool:
        """Whether it reads this stream's detections."""
        return self._detections and (not self._streams or stream_id in self._streams)

    def take(self) -> list[Message]:
        """Return what came since the last call."""
        return [self._messages.popleft() for _ in range(len(self._messages))]


class Feed:
    """Hands every published message to all readers. While nobody reads that is a look at an empty tuple."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers: tuple[Reader, ...] = ()

    def send(self, message: Message) -> None:
        """Hand on a message. Never waits; called by the threads that publish."""
        for reader in self._readers:
            reader.put(message)

    def wants_detections(self, stream_id: str) -> bool:
        """Whether somebody reads this stream's detections: what is encoded need not be decoded for nobody."""
        return any(reader.wants_detections(stream_id) for reader in self._readers)

    @contextmanager
    def read(self, kinds: Collection[str], streams: Collection[str]) -> Iterator[Reader]:
        """Read along: messages of these kinds ("status", "detections"), of these streams or, without any, of all."""
        reader = Reader(kinds, streams)
        with self._lock:
            self._readers = (*self._readers, reader)
        try:
            yield reader
        finally:
            with self._lock:
                self._readers = tuple(other for other in self._readers if other is not reader)
