"""The track stage of one stream: gives its detections identities, anew in every epoch."""

from __future__ import annotations

from pipeline.infer.batch import InferredFrame
from pipeline.track.tracker import Tracker, Tracks


class TrackStep:
    """Feeds one stream's frames to its tracker. Passive and not thread-safe."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._epoch: int | None = None

    def __call__(self, inferred: InferredFrame) -> Tracks:
        """Return the tracks of one inferred frame. A new epoch is a new story: no identity survives it."""
        frame, found = inferred.frame, inferred.detections
        if frame.epoch != self._epoch:
            self._tracker.reset()
            self._epoch = frame.epoch
        return self._tracker.update(found.xyxy, found.scores, found.class_ids, frame.pts_seconds)
