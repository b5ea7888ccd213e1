"""The track stage: gives the detections of all streams identities, anew in every epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.clock import monotonic
from pipeline.detections import Detections, ScoreLimits
from pipeline.infer.batch import InferredFrame
from pipeline.track.tracker import CONFIRMED, Tracker, Tracks, fit_scores, open_tracker, update_many


@dataclass(frozen=True, slots=True)
class TrackedFrame:
    """One frame with what may be published of it."""

    inferred: InferredFrame
    """Its detections reach the score threshold or belong to a confirmed track."""
    tracks: Tracks | None
    """None where the stream is not tracked. ``detection_index`` counts the detections beside it."""
    seconds: float
    """What tracking took. Frames of several streams that were tracked together waited for each other."""


class TrackStep:
    """Feeds frames to the trackers of their streams. Passive; one thread at a time may call it.

    Streams come and go meanwhile, from other threads: each before its first frame, and after its last.
    """

    def __init__(self, trackers: Mapping[str, Tracker], *, score_threshold: float) -> None:
        """``trackers``: stream id -> its tracker; streams that are not tracked are not in it."""
        self._trackers = dict(trackers)
        self._score_threshold = score_threshold
        self._limits: dict[str, ScoreLimits] = {}
        self._epochs: dict[str, int] = {}

    @classmethod
    def open(
        cls, names: Mapping[str, str], *, score_threshold: float, new_track_score: float | None = None
    ) -> TrackStep:
        """Open each stream's tracker by its name ("off": none), with scores that fit ``score_threshold``."""
        trackers = {
            stream_id: open_tracker(name, **fit_scores(name, score_threshold, new_track_score))
            for stream_id, name in names.items()
            if name != "off"
        }
        return cls(trackers, score_threshold=score_threshold)

    def add(self, stream_id: str, name: str, score_threshold: float, new_track_score: float | None = None) -> None:
        """Take in one more stream, with a threshold of its own and a tracker by its name ("off": none)."""
        if name != "off":
            self._trackers[stream_id] = open_tracker(name, **fit_scores(name, score_threshold, new_track_score))
        self.change_threshold(stream_id, score_threshold)

    def change_threshold(self, stream_id: str, score_threshold: float) -> None:
        """Publish what reaches another score. The tracker keeps the scores that it was opened with."""
        tracker = self._trackers.get(stream_id)
        least = score_threshold if tracker is None else min(score_threshold, tracker.least_score)
        self._limits[stream_id] = ScoreLimits(score_threshold, least)

    def forget(self, stream_id: str) -> None:
        """A stream is gone: no frame of it will come any more."""
        for known in (self._trackers, self._limits, self._epochs):
            known.pop(stream_id, None)

    def limits(self, stream_id: str) -> ScoreLimits:
        """Return which scores of a stream are of use. Thread-safe."""
        return self._limits.get(stream_id) or ScoreLimits(self._score_threshold, self.least_score)

    @property
    def least_score(self) -> float:
        """The lowest score of use here: some tracker looks below the score threshold, or nobody does."""
        return min([self._score_threshold, *(tracker.least_score for tracker in self._trackers.values())])

    def __call__(self, frames: Sequence[InferredFrame]) -> Iterator[TrackedFrame]:
        """Track frames in their order; those of different streams in a row together, which costs far less.

        A new epoch is a new story: no identity survives it.
        """
        if not self._trackers:
            for inferred in frames:
                yield self._tracked(inferred, None, 0.0)
            return
        for together in _without_repeats(frames):
            started = monotonic()
            tracked = [one for one in together if one.frame.stream_id in self._trackers]
            tracks_of = self._tracks(tracked) if tracked else {}
            seconds = monotonic() - started
            for inferred in together:
                yield self._tracked(inferred, tracks_of.get(inferred.frame.stream_id), seconds)

    def _tracked(self, inferred: InferredFrame, tracks: Tracks | None, seconds: float) -> TrackedFrame:
        limit = self._limits.get(inferred.frame.stream_id)
        threshold = self._score_threshold if limit is None else limit.publish
        found, tracks = _publishable(inferred.detections, tracks, threshold)
        published = inferred if found is inferred.detections else replace(inferred, detections=found)
        return TrackedFrame(published, tracks, 0.0 if tracks is None else seconds)

    def _tracks(self, tracked: Sequence[InferredFrame]) -> dict[str, Tracks]:
        """Return each stream's tracks: updated, or carried to a frame that was not inferred. One frame a stream."""
        for one in tracked:
            self._begin_epoch(one.frame.stream_id, one.frame.epoch)
        seen = [one for one in tracked if not one.carried]
        updated = update_many(
            [self._trackers[one.frame.stream_id] for one in seen],
            [one.detections for one in seen],
            [one.frame.pts_seconds for one in seen],
        )
        tracks = {one.frame.stream_id: found for one, found in zip(seen, updated, strict=True)}
        for one in tracked:
            if one.carried:
                tracks[one.frame.stream_id] = self._trackers[one.frame.stream_id].predict(one.frame.pts_seconds)
        return tracks

    def _begin_epoch(self, stream_id: str, epoch: int) -> None:
        if self._epochs.get(stream_id) != epoch:
            self._trackers[stream_id].reset()
            self._epochs[stream_id] = epoch


def _without_repeats(frames: Sequence[InferredFrame]) -> Iterator[list[InferredFrame]]:
    """Cut ``frames`` into runs in which no stream comes twice: its frames are tracked one after the other."""
    run: dict[str, InferredFrame] = {}
    for inferred in frames:
        if inferred.frame.stream_id in run:
            yield list(run.values())
            run = {}
        run[inferred.frame.stream_id] = inferred
    if run:
        yield list(run.values())


def _publishable(found: Detections, tracks: Tracks | None, score_threshold: float) -> tuple[Detections, Tracks | None]:
    """Leave out doubtful detections, kept for trackers alone, unless a confirmed track vouches for them."""
    if not len(found) or found.scores[-1] >= score_threshold:  # best score first
        return found, tracks
    stays = found.scores >= score_threshold
    surely = int(np.count_nonzero(stays))
    if tracks is None:
        return found.best(surely), None
    rows = tracks.detection_index
    doubtful = rows >= surely
    vouched = rows[doubtful & (tracks.states == CONFIRMED)]
    if not len(vouched):  # the usual case: the best stay, whose rows stay the same
        return found.best(surely), tracks.take(~doubtful) if doubtful.any() else tracks
    stays[vouched] = True
    if stays.all():
        return found, tracks
    kept = Detections(found.xyxy[stays], found.scores[stays], found.class_ids[stays], found.truncated)
    told = (rows < 0) | stays[rows]
    tracks = tracks.take(told)
    moved = (np.cumsum(stays) - 1).astype(np.int32)
    rows = tracks.detection_index
    return kept, replace(tracks, detection_index=np.where(rows < 0, -1, moved[rows]).astype(np.int32))
