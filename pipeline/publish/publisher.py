"""Turns one frame's result into one message and gives it to every sink."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from pipeline import clock
from pipeline.detections import Detections
from pipeline.infer.batch import InferredFrame
from pipeline.publish.messages import (
    SCHEMA_VERSION,
    DetectedObject,
    DetectionsMessage,
    Message,
    StageSeconds,
    StatusMessage,
    TrackState,
)
from pipeline.publish.sink import Encoded, Sink

if TYPE_CHECKING:
    from pipeline.frame import Size
    from pipeline.track.tracker import Tracks

BOX_DECIMALS = 2
"""A hundredth of a pixel is far below any detector's error, and JSON gets 28% smaller than with all digits of a float.
MessagePack takes 9 bytes either way; it is rounded too, so that both encodings say the same."""

SCORE_DECIMALS = 4


Row = tuple[tuple[float, float, float, float], float, int]
Identity = tuple[int | None, float | None, TrackState | None]

_TRACK_STATES: tuple[TrackState, ...] = ("tentative", "confirmed", "carried")
"""Names of ``pipeline.track.tracker``'s numbers."""


class Publisher:
    """Numbers, stamps and hands on messages. Owns its sinks. Not thread-safe: only the publish thread calls it."""

    def __init__(
        self,
        sinks: Sequence[Sink],
        *,
        model_name: str,
        class_names: Sequence[str],
        status_interval: float = 1.0,
        input_size: tuple[int, int] | None = None,
        also: Callable[[Message], None] = lambda message: None,
        publisher_id: str | None = None,
    ) -> None:
        """``input_size``: of the model, for frames that do not say at which they were run.

        ``also`` hears every message that goes to the sinks; it must not wait. ``publisher_id``: of the run that this
        one is a part of; None begins a run of its own.
        """
        self._input_size = input_size
        self.id = publisher_id or secrets.token_hex(8)
        """Names this run: subscribers know a restart by it."""
        self._sinks = tuple(sinks)
        self._model_name = model_name
        self._class_names = tuple(class_names)
        self._status_interval = status_interval
        self._sequences: dict[str, int] = {}
        self._epochs: dict[str, int] = {}
        self._also = also
        self._closed = False

    @property
    def lost(self) -> dict[str, int]:
        """Sink address -> messages that the sink could not hand on."""
        return {sink.address: sink.lost for sink in self._sinks}

    def sequence(self, stream_id: str) -> int:
        """Return the sequence number of the stream's latest detections message; 0 before the first."""
        return self._sequences.get(stream_id, 0)

    def resume(self, stream_id: str, sequence: int) -> None:
        """Let the stream's next message follow ``sequence``: somebody else published up to there."""
        self._sequences[stream_id] = sequence

    def forward(self, message: Encoded) -> None:
        """Hand on a message that another process numbered, stamped and encoded for this run."""
        self._sequences[message.stream_id] = message.sequence
        self._epochs[message.stream_id] = message.epoch
        for sink in self._sinks:
            sink.forward(message)

    def publish(
        self,
        result: InferredFrame,
        *,
        wait_seconds: float,
        track_seconds: float = 0.0,
        tracks: Tracks | None = None,
        now: float | None = None,
        traceparent: str = "",
    ) -> DetectionsMessage:
        """Publish one frame's result and return what was published.

        With ``tracks``, detections carry the identity of the track that took them, and carried tracks follow as
        objects of their own. ``now`` is the monotonic clock, to save a look.
        """
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
            objects=self._objects(result.detections, tracks, frame.size),
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
            inferred=not result.carried,
            traceparent=traceparent,
            input_size=None if result.carried else result.input_size or self._input_size,
        )
        for sink in self._sinks:
            sink.send(message)
        self._also(message)
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
        self._also(message)
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

    def _objects(self, detections: Detections, tracks: Tracks | None, size: Size) -> list[DetectedObject]:
        name = self._class_name
        if tracks is None or not len(tracks):
            return [DetectedObject(box, score, class_id, name(class_id)) for box, score, class_id in _rows(detections)]
        taken, carried = _identities(tracks)
        nobody: Identity = (None, None, None)
        objects = [
            DetectedObject(box, score, class_id, name(class_id), *taken.get(row, nobody))
            for row, (box, score, class_id) in enumerate(_rows(detections))
        ]
        if carried:
            rows = _rows(_carried_boxes(tracks, size))
            objects += [
                DetectedObject(box, score, class_id, name(class_id), *identity)
                for (box, score, class_id), identity in zip(rows, carried, strict=True)
            ]
        return objects

    def _class_name(self, class_id: int) -> str:
        return self._class_names[class_id] if 0 <= class_id < len(self._class_names) else str(class_id)


def _rows(detections: Detections) -> Iterator[Row]:
    if not len(detections):
        return iter(())
    # float32 counts in steps too coarse to stay short in decimal: 0.1 would travel as 0.10000000149011612.
    boxes = detections.xyxy.astype(np.float64).round(BOX_DECIMALS).tolist()
    scores = detections.scores.astype(np.float64).round(SCORE_DECIMALS).tolist()
    return zip(map(tuple, boxes), scores, detections.class_ids.tolist(), strict=True)


def _identities(tracks: Tracks) -> tuple[dict[int, Identity], list[Identity]]:
    """Return the identities by row of their detection, and those of the carried tracks."""
    taken: dict[int, Identity] = {}
    carried: list[Identity] = []
    columns = zip(
        tracks.detection_index.tolist(),
        tracks.track_ids.tolist(),
        tracks.ages_seconds.tolist(),
        tracks.states.tolist(),
        strict=True,
    )
    for row, track_id, age, state in columns:
        known = _TRACK_STATES[state]
        identity: Identity = (None, None, known) if known == "tentative" else (track_id, round(age, 3), known)
        if row < 0:
            carried.append(identity)
        else:
            taken[row] = identity
    return taken, carried


def _carried_boxes(tracks: Tracks, size: Size) -> Detections:
    unseen = tracks.detection_index < 0
    edge = np.array([size.width, size.height, size.width, size.height], np.float32)
    boxes = np.clip(tracks.xyxy[unseen], np.float32(0), edge)
    return Detections(boxes, tracks.scores[unseen], tracks.class_ids[unseen])
