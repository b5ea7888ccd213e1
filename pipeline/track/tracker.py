"""The protocol of every tracker, what it returns, and the table that finds one by name."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Final, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.detections import Detections, FloatArray, IntArray
from pipeline.errors import ConfigError

TRACKERS: dict[str, str] = {  # name -> "module:Class", imported on first use
    "bytetrack": "pipeline.track.bytetrack:ByteTracker",
    "ocsort": "pipeline.track.ocsort:OcSortTracker",
}

TENTATIVE: Final = 0
"""Seen, but not often enough yet to be believed."""
CONFIRMED: Final = 1
"""Seen in this very frame, and believed."""
CARRIED: Final = 2
"""Not seen in this frame (lost, or the frame was not inferred): the box is where it should be by now."""


@dataclass(frozen=True, slots=True)
class Tracks:
    """Objects of one frame of one stream, with identities: parallel arrays, one row a track, oldest track first."""

    xyxy: FloatArray
    """float32 ``[T, 4]``: left, top, right, bottom in source pixels. May reach past the picture's edge."""
    scores: FloatArray
    """float32 ``[T]``, 0-1: of the detection that the track took last."""
    class_ids: IntArray
    """int32 ``[T]``. A track keeps its class."""
    track_ids: NDArray[np.int64]
    """int64 ``[T]``, from 1 up, never used twice by one tracker."""
    ages_seconds: FloatArray
    """float32 ``[T]``: stream time since the track's first detection."""
    states: NDArray[np.uint8]
    """uint8 ``[T]``: ``TENTATIVE``, ``CONFIRMED`` or ``CARRIED``."""
    detection_index: IntArray
    """int32 ``[T]``: the row of the detection that the track took in this update, -1 where it is carried."""

    def __len__(self) -> int:
        return len(self.track_ids)

    def take(self, which: NDArray[np.bool_] | slice) -> Tracks:
        """Return the tracks where ``which [T]`` is true, or a run of them as a view."""
        return Tracks(
            self.xyxy[which],
            self.scores[which],
            self.class_ids[which],
            self.track_ids[which],
            self.ages_seconds[which],
            self.states[which],
            self.detection_index[which],
        )


class Tracker(Protocol):
    """Gives the objects of one stream identities.

    Passive: starts no thread, keeps no frame. Not thread-safe: one per stream. State is bounded.
    """

    trusted_share: ClassVar[float]
    """Where it should begin to trust detections: this far from the detector's score threshold (0) to 1 (1)."""

    @property
    def least_score(self) -> float:
        """Detections below this score are not looked at."""

    def update(self, xyxy: FloatArray, scores: FloatArray, class_ids: IntArray, time_seconds: float) -> Tracks:
        """Take in one inferred frame and return its tracks.

        ``xyxy`` float32 ``[N, 4]`` source pixels, ``scores`` float32 ``[N]``, ``class_ids`` int32 ``[N]``; any order.
        Boxes that are empty or not finite are never tracked. ``time_seconds``: stream time of the frame in seconds,
        rising within an epoch; a time that does not rise counts as the smallest step.
        """

    def predict(self, time_seconds: float) -> Tracks:
        """Return the confirmed tracks of the last update, carried to a frame that was not inferred. Changes nothing."""

    def reset(self) -> None:
        """Start a new epoch: no identity from before returns, and time may start anywhere."""


class BatchedTracker(Tracker, Protocol):
    """A tracker whose streams can be updated together, for the price of little more than one."""

    def batch_key(self) -> object:
        """Trackers with equal keys may share a batch. Hashable."""

    def update_batch(
        self, trackers: Sequence[Any], detections: Sequence[Detections], times_seconds: Sequence[float]
    ) -> list[Tracks]:
        """Update all of ``trackers`` (equal keys, each once), one frame each. Same results as ``update`` on each."""


def open_tracker(name: str, **options: Any) -> Tracker:
    """Return a new tracker by its name in ``TRACKERS``. ``options`` are the fields of its options class."""
    tracker: Tracker = _tracker_class(name)(**options)
    return tracker


def fit_scores(name: str, score_threshold: float, new_track_score: float | None = None) -> dict[str, float]:
    """Return the score options of tracker ``name`` that fit a detector used from ``score_threshold`` up.

    A track begins with a detection halfway from the threshold to 1, or at ``new_track_score``, but never with one that
    is not published. At a threshold of 0.25, usual for small detectors, that is 0.63, and ByteTrack trusts from 0.4.
    These shares were the best round ones for four small detectors, two scenes and both trackers taken together; the
    fixed 0.6 and 0.7 of the papers leave the objects of a weak detector without tracks.
    """
    rest = 1.0 - score_threshold
    new = score_threshold + 0.5 * rest if new_track_score is None else max(new_track_score, score_threshold)
    trusted = score_threshold + _tracker_class(name).trusted_share * rest
    return {"high_score": min(trusted, new), "new_track_score": new}


def _tracker_class(name: str) -> Any:
    target = TRACKERS.get(name)
    if target is None:
        raise ConfigError(f"tracker '{name}' is unknown. Known: {', '.join(TRACKERS)}.")
    module_name, class_name = target.split(":")
    return getattr(importlib.import_module(module_name), class_name)


def update_many(
    trackers: Sequence[Tracker], detections: Sequence[Detections], times_seconds: Sequence[float]
) -> list[Tracks]:
    """Update one tracker a stream with one frame each, and return the tracks in the same order.

    Gives exactly what ``update`` on each gives; streams with the same kind of tracker and options share the array work.
    No tracker may be named twice: frames of one stream go in one after the other.
    """
    if not len(trackers) == len(detections) == len(times_seconds):
        raise ValueError(
            f"got {len(trackers)} trackers, {len(detections)} detections and {len(times_seconds)} times; "
            "give one of each per stream"
        )
    if len({id(tracker) for tracker in trackers}) != len(trackers):
        raise ValueError("a tracker is named twice; update its frames one after the other")
    groups: dict[object, list[int]] = {}
    for index, tracker in enumerate(trackers):
        key = cast(BatchedTracker, tracker).batch_key() if _can_batch(type(tracker)) else index
        groups.setdefault(key, []).append(index)
    results: list[Tracks | None] = [None] * len(trackers)
    for members in groups.values():
        first, frames = trackers[members[0]], [detections[index] for index in members]
        if len(members) > 1:
            times = [times_seconds[index] for index in members]
            updated = cast(BatchedTracker, first).update_batch([trackers[index] for index in members], frames, times)
        else:
            frame = frames[0]
            updated = [first.update(frame.xyxy, frame.scores, frame.class_ids, times_seconds[members[0]])]
        for index, tracks in zip(members, updated, strict=True):
            results[index] = tracks
    return [tracks for tracks in results if tracks is not None]


@cache
def _can_batch(kind: type[Tracker]) -> bool:
    """Whether such trackers are ``BatchedTracker``s. Asking ``isinstance`` of a protocol costs as much as tracking."""
    return hasattr(kind, "update_batch")
