"""Delivery over ZeroMQ: one XPUB socket, ``[topic, payload]``, a bounded queue a subscriber, never a wait.

XPUB rather than PUB because it tells who subscribes: that is how a late joiner gets the state of all streams at once.
What a slow subscriber does not take in time is dropped for it alone, inside libzmq; its sequence numbers tell it which.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from pathlib import Path

import msgspec
import zmq

from pipeline.clock import monotonic
from pipeline.errors import UrlError
from pipeline.publish.curve import LARGEST_HANDSHAKE_BYTES, PublisherKeys
from pipeline.publish.messages import DetectionsMessage, StatusMessage
from pipeline.publish.sink import Encoded, Encoding
from pipeline.publish.zmq_address import ZmqAddress, check_ipc_path_is_free, parse_zmq_address

SEND_QUEUE_MESSAGES = 1000
"""Messages that may wait for one subscriber before it starts to lose them: 40 s of one 25 fps stream.

Memory: at most this many times the message size (0.9 kB with 5 objects, 36 kB with 300) for all stopped subscribers
together, because libzmq shares a message's bytes between them, plus 130 bytes a message and subscriber."""

LINGER_MILLISECONDS = 500
"""How long ``close`` waits for what is still queued; longer only serves subscribers that have stopped reading."""

LARGEST_INCOMING_BYTES = 96
"""Subscriptions are all that subscribers send, and the longest topic has 75 bytes; libzmq cuts off who sends more."""

INCOMING_QUEUE_MESSAGES = 200
MOST_TOPICS = 10_000
"""Distinct subscriptions, over all subscribers, that are honest (two a stream and up to 1024 streams).

libzmq stores each (up to 4 kB) and frees none while its owner stays, so beyond this everyone is disconnected: honest
subscribers are back within a second and see exactly what they missed. A flood of 400,000 takes 80 MB so, not 1.6 GB."""

_JOIN_CHECK_SECONDS = 0.05
_MOST_JOINS_A_CHECK = 2000

_log = logging.getLogger(__name__)


class ZmqSink:
    """Publishes on a ZeroMQ address. Not thread-safe: only the publish thread calls it."""

    def __init__(
        self,
        rest: str,
        encoding: Encoding,
        keys: PublisherKeys | None = None,
        *,
        send_queue_messages: int = SEND_QUEUE_MESSAGES,
        most_topics: int = MOST_TOPICS,
    ) -> None:
        """Bind to ``tcp://HOST:PORT`` or ``ipc://PATH``; with ``keys``, only for the subscribers that they let in.

        Raises UrlError where that cannot be done.
        """
        self.address = f"zmq:{rest}"
        self.lost = 0
        self.encoding: Encoding = encoding
        self._zmq_address = parse_zmq_address(rest, bind=True)
        self._send_queue_messages = send_queue_messages
        self._most_topics = most_topics
        self._encode = (msgspec.msgpack.Encoder() if encoding == "msgpack" else msgspec.json.Encoder()).encode
        self._topics: dict[str, bytes] = {}
        self._statuses: dict[str, StatusMessage] = {}
        self._sequences: dict[str, int] = {}
        self._joined: set[bytes] = set()
        self._subscribed: set[bytes] = set()
        self._next_join_check = 0.0
        self._loss_told = False
        # One context a sink: two pipelines in one process then share nothing, and closing one cannot stall the other.
        self._context = zmq.Context()
        self._keys = keys
        self._guard = keys.guard(self._context) if keys else None
        self._socket: zmq.Socket[bytes] | None = None
        try:
            self._socket = self._bind()
        except BaseException:
            if self._guard is not None:
                self._guard.stop()
            self._context.destroy(linger=0)
            raise
        if keys is None and not self._zmq_address.loopback:
            _log.warning("%s can be reached from other machines: whoever connects can read everything.", self.address)

    @property
    def subscriptions(self) -> int:
        """Distinct topics that somebody is subscribed to, as of the last tick."""
        return len(self._subscribed)

    def send(self, message: DetectionsMessage | StatusMessage) -> None:
        """Queue one message for every subscriber of its topic. Returns at once, also where nobody takes it."""
        stream_id = message.stream_id
        if isinstance(message, DetectionsMessage):
            self._send_detections(stream_id, message.sequence, self._encode(message))
        else:
            self._statuses[stream_id] = message
            self._sequences[stream_id] = message.sequence
            self._hand_on(f"status/{stream_id}".encode(), self._encode(message))
        if monotonic() >= self._next_join_check:
            self.tick()

    def forward(self, message: Encoded) -> None:
        """Queue one encoded message for every subscriber of its topic, as ``send`` does."""
        payload = message.msgpack if self.encoding == "msgpack" else message.json
        self._send_detections(message.stream_id, message.sequence, payload)
        if monotonic() >= self._next_join_check:
            self.tick()

    def flush(self) -> None:
        """Nothing is gathered: each message leaves at once."""

    def tick(self) -> None:
        """Publish the latest status of every stream that a new subscription matches."""
        self._next_join_check = monotonic() + _JOIN_CHECK_SECONDS
        if self._socket is None:
            self._reopen()
            return
        self._read_subscriptions(self._socket)
        if len(self._subscribed) > self._most_topics:
            self._disconnect_everyone()
            return
        joined, self._joined = self._joined, set()
        if not joined:
            return
        prefixes = tuple(joined)
        for stream_id, status in self._statuses.items():
            topic = f"status/{stream_id}".encode()
            if topic.startswith(prefixes):
                # The kept status may be a second old; with today's sequence a joiner misses nothing it did not lose.
                current = msgspec.structs.replace(status, sequence=self._sequences[stream_id])
                self._hand_on(topic, self._encode(current))

    def close(self) -> None:
        """Give subscribers a moment to take what is queued, then release the address. Closing twice is safe."""
        if self._context.closed:
            return
        if self._socket is not None:
            path = self._zmq_address.ipc_path
            if path is not None and not path.startswith("@"):
                # libzmq leaves the file behind; while the socket is bound, no successor can have taken the path.
                Path(path).unlink(missing_ok=True)
            self._socket.close(linger=LINGER_MILLISECONDS)
            self._socket = None
        if self._guard is not None:
            self._guard.stop()
        self._context.term()

    def _send_detections(self, stream_id: str, sequence: int, payload: bytes) -> None:
        self._sequences[stream_id] = sequence
        topic = self._topics.get(stream_id)
        if topic is None:
            topic = self._topics[stream_id] = f"detections/{stream_id}".encode()
        self._hand_on(topic, payload)

    def _hand_on(self, topic: bytes, payload: bytes) -> None:
        try:
            if self._socket is None:
                raise zmq.ZMQError(errno.ENOTSOCK)
            self._socket.send(topic, zmq.SNDMORE | zmq.NOBLOCK)
            self._socket.send(payload, zmq.NOBLOCK)
        except zmq.ZMQError as error:
            self.lost += 1
            if not self._loss_told:
                self._loss_told = True
                _log.warning("%s: messages are being lost: %s", self.address, error)

    def _read_subscriptions(self, socket: zmq.Socket[bytes]) -> None:
        with contextlib.suppress(zmq.Again):
            for _ in range(_MOST_JOINS_A_CHECK):
                request = socket.recv(zmq.NOBLOCK)
                if request[:1] == b"\x01":
                    self._subscribed.add(request[1:])
                    self._joined.add(request[1:])
                elif request[:1] == b"\x00":
                    self._subscribed.discard(request[1:])

    def _bind(self) -> zmq.Socket[bytes]:
        address = self._zmq_address
        if address.ipc_path is not None:
            check_ipc_path_is_free(address.ipc_path)
        socket = self._context.socket(zmq.XPUB)
        try:
            socket.setsockopt(zmq.XPUB_VERBOSE, 1)
            socket.setsockopt(zmq.SNDHWM, self._send_queue_messages)
            socket.setsockopt(zmq.RCVHWM, INCOMING_QUEUE_MESSAGES)
            socket.setsockopt(zmq.LINGER, LINGER_MILLISECONDS)
            socket.setsockopt(zmq.MAXMSGSIZE, LARGEST_HANDSHAKE_BYTES if self._keys else LARGEST_INCOMING_BYTES)
            socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
            socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, 60)
            socket.setsockopt(zmq.IPV6, int(address.ipv6))
            if self._keys is not None:
                self._keys.protect(socket)
            socket.bind(address.url)
            if address.ipc_path is not None and not address.ipc_path.startswith("@"):
                Path(address.ipc_path).chmod(0o660)
        except zmq.ZMQError as error:
            socket.close(linger=0)
            raise UrlError(f"address '{address.url}': {_why_not_bound(error, address)}") from error
        except OSError as error:
            socket.close(linger=0)
            raise UrlError(f"address '{address.url}': {error.strerror}.") from error
        return socket

    def _disconnect_everyone(self) -> None:
        _log.warning(
            "%s: %d different subscriptions, far more than there are streams. Disconnecting all subscribers to free "
            "the memory; honest ones reconnect by themselves.",
            self.address,
            len(self._subscribed),
        )
        if self._socket is not None:
            self._socket.close(linger=0)
            self._socket = None
        self._subscribed.clear()
        self._joined.clear()

    def _reopen(self) -> None:
        # libzmq gives the address back in the background: the next tick tries again.
        with contextlib.suppress(UrlError):
            if not self._context.closed:
                self._socket = self._bind()


def _why_not_bound(error: zmq.ZMQError, address: ZmqAddress) -> str:
    if error.errno == errno.EADDRINUSE:
        return "in use by another process. Stop it, or give this pipeline another port."
    if error.errno in (errno.ENODEV, errno.EADDRNOTAVAIL):
        return "no interface of this machine has that address. Use 127.0.0.1, * for all, or one that 'ip addr' lists."
    if error.errno == errno.EACCES:
        return "permission denied. Use a port from 1024 up, or a path that this user may write."
    return f"cannot be bound: {error.strerror or error}."
