"""The subscriber's side: messages in, and a word about everything that did not arrive.

Needs msgspec and pyzmq, nothing else of the pipeline. A subscriber that reads too slowly loses messages, alone and
silently as far as ZeroMQ goes; the sequence numbers tell it exactly which, and so does this client::

    with Subscriber("tcp://127.0.0.1:5555", streams=["lobby"]) as subscriber:
        for event in subscriber:
            match event:
                case DetectionsMessage(objects=objects): ...
                case Gap(stream_id, first_missing, last_missing): ...
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, NamedTuple

import msgspec
import zmq

from pipeline.clock import monotonic
from pipeline.errors import OnpaceError
from pipeline.publish.curve import SubscriberKeys
from pipeline.publish.messages import SCHEMA_VERSION, DetectionsMessage, Message, StatusMessage
from pipeline.publish.zmq_address import parse_zmq_address

LARGEST_MESSAGE_BYTES = 8 * 1024 * 1024
"""Six times a message with 10,000 objects; libzmq drops the connection of whoever sends more."""

MISSED_STATUSES = 3
"""Status intervals of silence after which the publisher counts as gone."""

_ENDED_SECONDS = 0.5
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_LAST_LOOK_MILLISECONDS = 100


class SchemaVersionError(OnpaceError):
    """The publisher speaks another version of the message schema."""


class Gap(NamedTuple):
    """Messages of one stream that were published and did not arrive."""

    stream_id: str
    first_missing: int
    last_missing: int
    """Sequence numbers, both included."""

    @property
    def lost(self) -> int:
        """How many messages are missing."""
        return self.last_missing - self.first_missing + 1


class PublisherGone(NamedTuple):
    """Nothing came for three status intervals. The connection is kept: the publisher, or a new one, may come back."""

    publisher: str
    stream_ids: tuple[str, ...]
    silent_seconds: float


class PublisherEnded(NamedTuple):
    """All of the publisher's streams have ended, and everything they published has been accounted for."""

    publisher: str
    stream_ids: tuple[str, ...]


class PublisherRestarted(NamedTuple):
    """Another run publishes these streams now: sequences begin again, epochs and track ids mean something new."""

    previous: str
    publisher: str


Kind = Literal["status", "detections"]

Event = Message | Gap | PublisherGone | PublisherEnded | PublisherRestarted


@dataclass(slots=True)
class StreamCounts:
    """One stream, as far as this subscriber saw it."""

    received: int = 0
    """Detections messages."""
    statuses: int = 0
    gaps: int = 0
    lost: int = 0
    """Messages in all gaps."""
    last_sequence: int = 0
    publisher: str = ""


@dataclass(slots=True)
class _Publisher:
    heard_at: float
    interval: float = 1.0
    verdicts: dict[str, bool] = field(default_factory=dict)
    """Stream -> whether it has ended."""
    all_ended_since: float | None = None
    told: bool = False
    """The caller knows that it is gone or ended."""


class _Header(msgspec.Struct):
    schema_version: int


class Subscriber:
    """Connects to one publisher and yields its messages and what happened to them. Not thread-safe.

    It reconnects by itself, for ever. ZeroMQ's own heartbeats stay off: libzmq 4.3 aborts the process when they meet a
    full queue, and the status messages do their work.
    """

    def __init__(
        self,
        endpoint: str,
        streams: Collection[str] | None = None,
        encoding: Literal["auto", "msgpack", "json"] = "auto",
        *,
        kinds: Collection[Kind] = ("status", "detections"),
        keys: SubscriberKeys | None = None,
        queue_messages: int = 1000,
    ) -> None:
        """Connect; without ``streams``, to all of them. ``kinds``: where detections are not wanted, gaps
        in them are nobody's loss. ``keys`` for a publisher that asks who connects.

        Raises UrlError for a malformed endpoint; a publisher that is not there yet is waited for.
        """
        address = parse_zmq_address(endpoint, bind=False)
        self.counts: dict[str, StreamCounts] = {}
        self.malformed = 0
        """Messages that could not be read."""
        self.other_version = 0
        """Messages of another schema version; the first one also raised SchemaVersionError."""
        self._streams = frozenset(streams) if streams else None
        self._encoding = encoding
        self._from_msgpack: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
        self._from_json: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
        self._publishers: dict[str, _Publisher] = {}
        self._events: deque[Event] = deque()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, queue_messages)
        self._socket.setsockopt(zmq.MAXMSGSIZE, LARGEST_MESSAGE_BYTES)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2000)
        self._socket.setsockopt(zmq.IPV6, int(address.ipv6))
        self._counts_gaps = "detections" in kinds
        for kind in kinds:
            for stream_id in self._streams or ("",):
                self._socket.subscribe(f"{kind}/{stream_id}")
        if keys is not None:
            keys.protect(self._socket)
        self._socket.connect(address.url)

    def __enter__(self) -> Subscriber:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        """Wait for the next event. Ends when the subscriber has been closed."""
        event = None
        while event is None:
            if self._socket.closed:
                raise StopIteration
            event = self.receive(timeout_seconds=1.0)
        return event

    def receive(self, timeout_seconds: float) -> Event | None:
        """Return the next event, or None when there was none in time. Raises SchemaVersionError, once."""
        deadline = monotonic() + timeout_seconds
        while not self._events:
            now = monotonic()
            until = min(deadline, self._next_verdict_at())
            if self._socket.poll(int(max(0.0, until - now) * 1000) + 1):
                self._take(self._socket.recv_multipart())
            else:
                self._judge_silence()
                if monotonic() >= deadline and not self._events:
                    return None
        return self._events.popleft()

    def close(self) -> None:
        """Disconnect. Closing twice is safe."""
        self._socket.close(linger=0)
        self._context.term()

    def _take(self, parts: list[bytes]) -> None:
        message = self._read(parts)
        if message is None or (self._streams is not None and message.stream_id not in self._streams):
            return  # topics match by prefix: a subscription to "cam1" brings "cam10" too
        counts = self.counts.setdefault(message.stream_id, StreamCounts())
        self._hear(message, counts)
        self._find_gap(message, counts)
        if isinstance(message, DetectionsMessage):
            counts.received += 1
        else:
            counts.statuses += 1
        self._events.append(message)

    def _read(self, parts: list[bytes]) -> Message | None:
        if len(parts) != 2:
            self.malformed += 1
            return None
        payload = parts[1]
        # A JSON object begins with a brace; to MessagePack that byte is the number 123, never a map.
        as_json = payload[:1] == b"{" if self._encoding == "auto" else self._encoding == "json"
        try:
            message = self._from_json.decode(payload) if as_json else self._from_msgpack.decode(payload)
            version: int | None = message.schema_version
        except _UNREADABLE:
            version = _version(payload, as_json)
            if version is None or version == SCHEMA_VERSION:
                self.malformed += 1
                return None
        if version == SCHEMA_VERSION:
            return message
        self.other_version += 1
        if self.other_version == 1:
            raise SchemaVersionError(
                f"the publisher sends messages of schema version {version}; this subscriber reads version "
                f"{SCHEMA_VERSION}. Use the subscriber of the publisher's release."
            )
        return None

    def _hear(self, message: Message, counts: StreamCounts) -> None:
        now = monotonic()
        if counts.publisher and counts.publisher != message.publisher:
            if message.publisher not in self._publishers:
                self._events.append(PublisherRestarted(counts.publisher, message.publisher))
            self._publishers.pop(counts.publisher, None)
            counts.last_sequence = 0
        publisher = self._publishers.setdefault(message.publisher, _Publisher(now))
        publisher.heard_at = now
        ended = False
        if isinstance(message, StatusMessage):
            publisher.interval = message.status_interval_seconds
            ended = message.verdict == "ended" and message.in_flight == 0
        publisher.verdicts[message.stream_id] = ended
        if not all(publisher.verdicts.values()):
            publisher.all_ended_since = None
            publisher.told = False
        elif publisher.all_ended_since is None:
            publisher.all_ended_since = now

    def _find_gap(self, message: Message, counts: StreamCounts) -> None:
        # A status says which sequence was sent last, so a loss shows even where nothing follows it.
        newest = message.sequence
        expected = newest if isinstance(message, DetectionsMessage) else newest + 1
        known = counts.publisher != ""  # what came before this subscriber did is nobody's loss
        first_missing = counts.last_sequence + 1
        if known and first_missing < expected and self._counts_gaps:
            gap = Gap(message.stream_id, first_missing, expected - 1)
            counts.gaps += 1
            counts.lost += gap.lost
            self._events.append(gap)
        counts.last_sequence = max(counts.last_sequence, newest) if known else newest
        counts.publisher = message.publisher

    def _next_verdict_at(self) -> float:
        return min(
            (_verdict_at(publisher) for publisher in self._publishers.values() if not publisher.told), default=1e18
        )

    def _judge_silence(self) -> None:
        now = monotonic()
        for publisher_id, publisher in self._publishers.items():
            if publisher.told or now < _verdict_at(publisher):
                continue
            # After a pause of this process, messages may still be on their way up from the kernel.
            if self._socket.poll(_LAST_LOOK_MILLISECONDS):
                return
            publisher.told = True
            streams = tuple(publisher.verdicts)
            if publisher.all_ended_since is not None:
                self._events.append(PublisherEnded(publisher_id, streams))
            else:
                self._events.append(PublisherGone(publisher_id, streams, monotonic() - publisher.heard_at))


def _verdict_at(publisher: _Publisher) -> float:
    if publisher.all_ended_since is not None:
        return publisher.all_ended_since + _ENDED_SECONDS
    return publisher.heard_at + MISSED_STATUSES * publisher.interval


def _version(payload: bytes, as_json: bool) -> int | None:
    try:
        if as_json:
            return msgspec.json.decode(payload, type=_Header).schema_version
        return msgspec.msgpack.decode(payload, type=_Header).schema_version
    except _UNREADABLE:
        return None
