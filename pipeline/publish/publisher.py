"""Turns one frame's result into one message and gives it to every sink."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

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
from pipeline.track.tracker import TENTATIVE

if TYPE_CHECKING:
    from pipeline.frame import Size
    from pipeline.track.tracker import Tracks

BOX_DECIMALS = 2
"""A hundredth of a pixel is far below any detector's error, and JSON gets 28% smaller than with all digits of a float.
MessagePack takes 9 bytes either way; it is rounded too, so that both encodings say the same."""

SCORE_DECIMALS = 4
AGE_DECIMALS = 3


class Columns(NamedTuple):
    """What ``DetectedObject`` takes first, a column each: every frame's objects are made column by column."""

    boxes: Iterable[tuple[float, float, float, float]]
    scores: Iterable[float]
    class_ids: Iterable[int]
    class_names: Iterable[str]


class Identities(NamedTuple):
    """What it takes next, of objects that are tracked."""

    track_ids: list[int | None]
    ages_seconds: list[float | None]
    states: list[TrackState | None]


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
        self._class_names = _Names(enumerate(class_names))
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

    def flush(self) -> None:
        """Let the sinks hand on what they gathered. Call after the frames of each batch."""
        for sink in self._sinks:
            sink.flush()

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
        columns = self._columns(detections)
        if tracks is None or not len(tracks):
            return list(map(DetectedObject, *columns))
        taken, carried = _identities(tracks, len(detections))
        objects = list(map(DetectedObject, *columns, *taken))
        if carried.track_ids:
            objects += map(DetectedObject, *self._columns(_carried_boxes(tracks, size)), *carried)
        return objects

    def _columns(self, detections: Detections) -> Columns:
        if not len(detections):
            return Columns((), (), (), ())
        # float32 counts in steps too coarse to stay short in decimal: 0.1 would travel as 0.10000000149011612.
        left, top, right, bottom = detections.xyxy.T.astype(np.float64).round(BOX_DECIMALS).tolist()
        scores = detections.scores.astype(np.float64).round(SCORE_DECIMALS).tolist()
        class_ids = detections.class_ids.tolist()
        return Columns(
            zip(left, top, right, bottom, strict=True), scores, class_ids, map(self._class_names.__getitem__, class_ids)
        )


class _Names(dict[int, str]):
    """Class id -> name; an id that the model has no name for is its own."""

    def __missing__(self, class_id: int) -> str:
        return str(class_id)


def _identities(tracks: Tracks, count: int) -> tuple[Identities, Identities]:
    """Return the identities of ``count`` detections by row, and those of the carried tracks."""
    taken = Identities([None] * count, [None] * count, [None] * count)
    carried = Identities([], [], [])
    columns = zip(
        tracks.detection_index.tolist(),
        tracks.track_ids.tolist(),
        tracks.ages_seconds.astype(np.float64).round(AGE_DECIMALS).tolist(),
        tracks.states.tolist(),
        strict=True,
    )
    for row, track_id, age, state in columns:
        if row < 0:
            carried.track_ids.append(track_id)
            carried.ages_seconds.append(age)
            carried.states.append(_TRACK_STATES[state])
            continue
        taken.states[row] = _TRACK_STATES[state]
        if state != TENTATIVE:
            taken.track_ids[row], taken.ages_seconds[row] = track_id, age
    return taken, carried


def _carried_boxes(tracks: Tracks, size: Size) -> Detections:
    unseen = tracks.detection_index < 0
    edge = np.array([size.width, size.height, size.width, size.height], np.float32)
    boxes = np.clip(tracks.xyxy[unseen], np.float32(0), edge)
    return Detections(boxes, tracks.scores[unseen], tracks.class_ids[unseen])
