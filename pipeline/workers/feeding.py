"""Messages that workers encoded, for whoever reads along over HTTP."""

from __future__ import annotations

import msgspec

from pipeline.publish.messages import DetectionsMessage
from pipeline.publish.sink import Encoded

_from_msgpack: msgspec.msgpack.Decoder[DetectionsMessage] = msgspec.msgpack.Decoder(DetectionsMessage)
_from_json: msgspec.json.Decoder[DetectionsMessage] = msgspec.json.Decoder(DetectionsMessage)


def message_of(encoded: Encoded) -> DetectionsMessage:
    """Return the message. Raises msgspec.DecodeError."""
    return _from_msgpack.decode(encoded.msgpack) if encoded.msgpack else _from_json.decode(encoded.json)
