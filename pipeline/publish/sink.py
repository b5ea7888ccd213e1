"""The protocol of every sink, and the table that finds one by the scheme of its address."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from pipeline.errors import UrlError
from pipeline.publish.messages import DetectionsMessage, StatusMessage

if TYPE_CHECKING:
    from pipeline.publish.curve import PublisherKeys

Encoding = Literal["msgpack", "json"]

SINKS: dict[str, str] = {  # "scheme:rest" -> "module:Class", imported on first use
    "zmq": "pipeline.publish.zmq_sink:ZmqSink",
    "jsonl": "pipeline.publish.jsonl_sink:JsonLinesSink",
}


class Encoded(NamedTuple):
    """One detections message that another process made and encoded; the bytes of an encoding nobody wants are empty."""

    stream_id: str
    epoch: int
    sequence: int
    frame_index: int
    msgpack: bytes
    json: bytes


class Sink(Protocol):
    """Takes messages. Never blocks the pipeline: what it cannot deliver it drops, and counts.

    Not thread-safe: only the publish thread calls it.
    """

    address: str
    """The sink's address as configured, safe to print."""
    encoding: Encoding
    """What it writes."""

    @property
    def lost(self) -> int:
        """Messages that this sink itself could not hand on."""

    def send(self, message: DetectionsMessage | StatusMessage) -> None:
        """Hand one message on."""

    def forward(self, message: Encoded) -> None:
        """Hand one message on that is encoded already, as this sink writes it."""

    def flush(self) -> None:
        """Called after the messages of each batch: hand on now what ``send`` gathered, where it gathers."""

    def tick(self) -> None:
        """Called several times a second: serve late joiners, flush what is due."""

    def close(self) -> None:
        """Flush and give the address back. Closing twice is safe."""


def open_sink(address: str, encoding: Encoding = "msgpack", keys: PublisherKeys | None = None) -> Sink:
    """Open the sink for ``scheme:rest`` ("zmq:tcp://127.0.0.1:5555", "jsonl:out.jsonl", "jsonl:-").

    ``keys`` close what leaves over a network to strangers; a file has its permissions instead.

    Raises UrlError where the scheme is unknown or the address cannot be used.
    """
    scheme, colon, rest = address.partition(":")
    target = SINKS.get(scheme)
    if target is None or not colon or not rest:
        examples = "zmq:tcp://127.0.0.1:5555, jsonl:out.jsonl"
        raise UrlError(f"sink '{address}': expected SCHEME:ADDRESS with scheme {' or '.join(SINKS)}, as in {examples}.")
    module_name, class_name = target.split(":")
    sink: Sink = getattr(importlib.import_module(module_name), class_name)(rest, encoding, keys)
    return sink
