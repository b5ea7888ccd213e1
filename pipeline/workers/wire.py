"""How a worker and its parent talk: frames over one pair of sockets that nobody else can reach.

A frame is a length (uint32, little endian, of the body), a kind (uint8) and the body. What a worker wrote before it was
killed is still read by its parent: the kernel keeps it, and the end of the stream comes after it.

Detections have a fixed header, so that the parent hands them on without decoding them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from pipeline.errors import OnpaceError
from pipeline.publish.sink import Encoded

DETECTIONS, NOTE, ORDER = 0, 1, 2
"""Kinds: one encoded message; what a worker says (``notes``); what its parent says (``orders``)."""

LARGEST_BODY_BYTES = 64 * 1024 * 1024
RECEIVE_BYTES = 256 * 1024

_FRAME = struct.Struct("<IB")
_DETECTIONS = struct.Struct("<BQQQI")  # bytes of the stream's id, epoch, sequence, frame index, bytes of MessagePack


class WireError(OnpaceError):
    """The other side does not speak our language: it is damaged, or of another release."""


def frame(kind: int, body: bytes) -> bytes:
    """Return ``body`` as a frame."""
    return _FRAME.pack(len(body), kind) + body


def detections_frame(message: Encoded) -> bytes:
    """Return one encoded message as a frame."""
    stream_id = message.stream_id.encode()
    head = _DETECTIONS.pack(len(stream_id), message.epoch, message.sequence, message.frame_index, len(message.msgpack))
    return frame(DETECTIONS, b"".join((head, stream_id, message.msgpack, message.json)))


def read_detections(body: bytes) -> Encoded:
    """Return the message of a frame's body."""
    id_bytes, epoch, sequence, frame_index, msgpack_bytes = _DETECTIONS.unpack_from(body)
    begin = _DETECTIONS.size + id_bytes
    end = begin + msgpack_bytes
    stream_id = body[_DETECTIONS.size : begin].decode()
    return Encoded(stream_id, epoch, sequence, frame_index, body[begin:end], body[end:])


class Frames:
    """Puts frames together from what a socket delivers. Not thread-safe."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield ``(kind, body)`` of every frame that is complete now; go through all of them. Raises WireError."""
        data = self._rest + data if self._rest else data
        begin, size = 0, len(data)
        while size - begin >= _FRAME.size:
            length, kind = _FRAME.unpack_from(data, begin)
            if length > LARGEST_BODY_BYTES:
                raise WireError(f"a frame of {length} bytes; allowed are {LARGEST_BODY_BYTES}.")
            body = begin + _FRAME.size
            if body + length > size:
                break
            begin = body + length
            self._rest = b""
            yield kind, data[body:begin]
        self._rest = data[begin:]
