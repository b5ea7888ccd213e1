"""Turns one frame's result into one message and gives it to every sink."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline import clock
from pipeline.detections import Detections
from pipeline.infer.batch import InferredFrame
from pipeline.publish.messages import (
    SCHEMA_VERSION,
    DetectedObject,
    DetectionsMessage,
    StageSeconds,
    StatusMessage,
    TrackState,
)
from pipeline.publish.sink import Sink

BOX_DECIMALS = 2
"""A hundredth of a pixel is far below any detector's error, and JSON gets 28% smaller than with all digits of a float.
MessagePack takes 9 bytes either way; it is rounded too, so that both encodings say the same."""

SCORE_DECIMALS = 4


class Identities(Protocol):
    """Tracks of one frame, as arrays parallel to its detections; row by row the same objects."""

    @property
    def track_ids(self) -> NDArray[np.integer]:
        """int ``[N]``; below 0 where the object has no confirmed identity."""

    @property
    def age_seconds(self) -> NDArray[np.floating]:
        """float ``[N]``, time since the track began."""

    @property
    def states(self) -> Sequence[TrackState]:
        """``[N]``."""


class Publisher:
    """Numbers, stamps and hands on messages. Owns its sinks. Not thread-safe: only the publish thread calls it."""

    def __init__(
        self, sinks: Sequence[Sink], *, model_name: str, class_names: Sequence[str], status_interval: float = 1.0
    ) -> None:
        self.id = secrets.token_hex(8)
        """Names this run: subscribers know a restart by it."""
        self._sinks = tuple(sinks)
        self._model_name = model_name
        self._class_names = tuple(class_names)
        self._status_interval = status_interval
        self._sequences: dict[str, int] = {}
        self._epochs: dict[str, int] = {}
        self._closed = False

    @property
    def lost(self) -> dict[str, int]:
        """Sink address -> messages that the sink could not hand on."""
        return {sink.address: sink.lost for sink in self._sinks}

    def sequence(self, stream_id: str) -> int:
        """Return the sequence number of the stream's latest detections message; 0 before the first."""
        return self._sequences.get(stream_id, 0)

    def publish(
        self,
        result: InferredFrame,
        *,
        wait_seconds: float,
        track_seconds: float = 0.0,
        tracks: Identities | None = None,
        inferred: bool = True,
        now: float | None = None,
    ) -> DetectionsMessage:
        """Publish one frame's result and return what was published. ``now`` is the monotonic clock, to save a look."""
        frame = result.frame
        sequence = self._sequences.get(frame.stream_id, 0) + 1
        self._sequences[frame.stream_id] = sequence
        self._epochs[frame.stream_id] = frame.epoch
        width, height = frame.size
        message = DetectionsMessage(
            schema_version=SCHEMA_VERSION,
            publisher=self.id,
            stream_id=frame.stream_id,
            epoch=frame.epoch,
            sequence=sequence,
            frame_index=frame.index,
            pts_seconds=frame.pts_seconds,
            capture_utc=frame.capture_utc,
            capture_clock=frame.capture_clock,
            published_utc=clock.utc(),
            age_seconds=(clock.monotonic() if now is None else now) - frame.captured_at,
            frame_width=width,
            frame_height=height,
            model=self._model_name,
            objects=self._objects(result.detections, tracks),
            stage_seconds=StageSeconds(
                decode=frame.decode_seconds,
                wait=wait_seconds,
                preprocess=result.preprocess_seconds,
                infer=result.infer_seconds,
                postprocess=result.postprocess_seconds,
                track=track_seconds,
            ),
            truncated=result.detections.truncated,
            damaged=frame.damaged,
            inferred=inferred,
        )
        for sink in self._sinks:
            sink.send(message)
        return message

    def publish_status(self, status: StatusMessage) -> StatusMessage:
        """Publish how a stream is doing and return what was published.

        Schema version, publisher, epoch, sequence, time and interval are set here, whatever the caller wrote.
        """
        message = msgspec.structs.replace(
            status,
            schema_version=SCHEMA_VERSION,
            publisher=self.id,
            epoch=self._epochs.get(status.stream_id, status.epoch),
            sequence=self.sequence(status.stream_id),
            published_utc=clock.utc(),
            status_interval_seconds=self._status_interval,
        )
        for sink in self._sinks:
            sink.send(message)
        return message

    def tick(self) -> None:
        """Let the sinks serve late joiners and flush. Call several times a second, also while nothing is published."""
        for sink in self._sinks:
            sink.tick()

    def close(self) -> None:
        """Close every sink. Closing twice is safe."""
        if self._closed:
            return
        self._closed = True
        for sink in self._sinks:
            sink.close()

    def _objects(self, detections: Detections, tracks: Identities | None) -> list[DetectedObject]:
        if not len(detections):
            return []
        # float32 counts in steps too coarse to stay short in decimal: 0.1 would travel as 0.10000000149011612.
        boxes = detections.xyxy.astype(np.float64).round(BOX_DECIMALS).tolist()
        scores = detections.scores.astype(np.float64).round(SCORE_DECIMALS).tolist()
        name = self._class_name
        rows = zip(boxes, scores, detections.class_ids.tolist(), strict=True)
        if tracks is None:
            return [DetectedObject(tuple(box), score, class_id, name(class_id)) for box, score, class_id in rows]
        identities = zip(tracks.track_ids.tolist(), tracks.age_seconds.tolist(), tracks.states, strict=True)
        return [
            DetectedObject(tuple(box), score, class_id, name(class_id), track_id, round(age, 3), state)
            if track_id >= 0
            else DetectedObject(tuple(box), score, class_id, name(class_id), None, None, state)
            for (box, score, class_id), (track_id, age, state) in zip(rows, identities, strict=True)
        ]

    def _class_name(self, class_id: int) -> str:
        return self._class_names[class_id] if 0 <= class_id < len(self._class_names) else str(class_id)
