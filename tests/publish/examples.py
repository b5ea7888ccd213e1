"""Results and statuses to publish, and what tests need to receive them."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline.detections import Detections
from pipeline.frame import Colour, Frame
from pipeline.infer.batch import InferredFrame
from pipeline.publish.messages import AgePercentiles, DetectionsMessage, StatusMessage
from pipeline.publish.publisher import Publisher
from pipeline.publish.sink import Sink
from pipeline.subscriber import Event, Subscriber

CLASS_NAMES = ("person", "bicycle", "car")
_LUMA = np.zeros((480, 640), np.uint8)
_CHROMA = np.zeros((240, 320), np.uint8)


def make_result(stream_id: str = "lobby", index: int = 0, objects: int = 2, **frame_fields: Any) -> InferredFrame:
    """One frame, 640x480, with so many objects of all classes in turn."""
    fields: dict[str, Any] = {
        "epoch": 1,
        "rotation": 0,
        "pts_seconds": index * 0.04,
        "received_at": time.monotonic(),
        "captured_at": time.monotonic(),
        "capture_utc": time.time(),
        "capture_clock": "arrival",
        "decoded_at": time.monotonic(),
        "decode_seconds": 0.002,
    }
    frame = Frame(
        stream_id=stream_id,
        index=index,
        planes=(_LUMA, _CHROMA, _CHROMA),
        colour=Colour(),
        **{**fields, **frame_fields},
    )
    corners = np.linspace(0.123456, 400.654321, objects * 4, dtype=np.float32).reshape(objects, 4)
    scores = np.linspace(0.987654, 0.3, objects, dtype=np.float32)
    detections = Detections(corners, scores, (np.arange(objects) % len(CLASS_NAMES)).astype(np.int32))
    return InferredFrame(frame, detections, preprocess_seconds=0.001, infer_seconds=0.02, postprocess_seconds=0.0005)


def make_status(stream_id: str = "lobby", **fields: Any) -> StatusMessage:
    """A stream that is doing well."""
    status = {
        "schema_version": 0,
        "publisher": "",
        "stream_id": stream_id,
        "epoch": 1,
        "sequence": 0,
        "published_utc": 0.0,
        "verdict": "keeping_up",
        "cause": "",
        "state": "live",
        "received": 120,
        "published": 117,
        "in_flight": 1,
        "dropped": {"decode": {"corrupt": 2}},
        "cadence_fps": 25.01,
        "published_fps": 24.9,
        "age_seconds": AgePercentiles(p50=0.03, p95=0.05, p99=0.06, max=0.07),
        "wait_seconds_p95": 0.004,
        "service_seconds_p95": 0.026,
        "capture_clock": "arrival",
        "reconnects": 0,
        "last_error": "",
    }
    return StatusMessage(**{**status, **fields})


def make_publisher(*sinks: Sink, status_interval: float = 1.0) -> Publisher:
    return Publisher(sinks, model_name="tiny", class_names=CLASS_NAMES, status_interval=status_interval)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def free_endpoint() -> str:
    return f"tcp://127.0.0.1:{free_port()}"


def collect(
    subscriber: Subscriber, until: Callable[[list[Event]], bool], within_seconds: float = 10.0, serve: Any = None
) -> list[Event]:
    """Receive until ``until`` holds of all events so far, ticking the publisher ``serve`` meanwhile."""
    events: list[Event] = []
    deadline = time.monotonic() + within_seconds
    while not until(events):
        assert time.monotonic() < deadline, f"not within {within_seconds} s; got {events[-5:]}"
        if serve is not None:
            serve.tick()
        event = subscriber.receive(0.02)
        if event is not None:
            events.append(event)
    return events


def join(publisher: Publisher, subscriber: Subscriber, stream_id: str = "lobby") -> None:
    """Publish a status and wait until the subscriber has it: from here on nothing may be lost unseen."""
    publisher.publish_status(make_status(stream_id))
    collect(
        subscriber,
        lambda events: any(isinstance(one, StatusMessage) and one.stream_id == stream_id for one in events),
        serve=publisher,
    )


def sequences(events: list[Event], stream_id: str = "lobby") -> list[int]:
    return [one.sequence for one in events if isinstance(one, DetectionsMessage) and one.stream_id == stream_id]
