"""Where a worker's results go: encoded as the run's sinks want them, then to the parent, which hands them on."""

from __future__ import annotations

import msgspec

from pipeline.publish.messages import DetectionsMessage, StatusMessage
from pipeline.publish.sink import Encoded, Encoding
from pipeline.workers.channel import Channel


class RelaySink:
    """Not thread-safe: only the publish thread calls it."""

    address = "parent"
    encoding: Encoding = "msgpack"

    def __init__(self, channel: Channel, encodings: frozenset[Encoding]) -> None:
        """``encodings``: what the run's sinks write."""
        self._channel = channel
        self._msgpack = msgspec.msgpack.Encoder() if "msgpack" in encodings else None
        self._json = msgspec.json.Encoder() if "json" in encodings else None

    @property
    def lost(self) -> int:
        """Messages that the parent was too slow to take."""
        return self._channel.lost

    def send(self, message: DetectionsMessage | StatusMessage) -> None:
        """Hand one message on. Statuses are the parent's to publish: it knows of workers that are gone, too."""
        if isinstance(message, DetectionsMessage):
            self.forward(
                Encoded(
                    message.stream_id,
                    message.epoch,
                    message.sequence,
                    message.frame_index,
                    self._msgpack.encode(message) if self._msgpack else b"",
                    self._json.encode(message) if self._json else b"",
                )
            )

    def forward(self, message: Encoded) -> None:
        """Hand one message on that is encoded already."""
        self._channel.detections(message)

    def flush(self) -> None:
        """Write what was sent."""
        self._channel.flush()

    def tick(self) -> None:
        """Write what is pending."""
        self._channel.flush()

    def close(self) -> None:
        """Write what is pending."""
        self._channel.flush()
