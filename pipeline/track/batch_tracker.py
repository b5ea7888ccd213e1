"""What all trackers share: state of many streams as one array, births, deaths, reports. Who takes what is theirs."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.detections import Detections, FloatArray, IntArray
from pipeline.track.arrange import Arranged, arrange, report_boxes
from pipeline.track.motion import DEFAULT_NOISE, STATE_ROWS, Motion, MotionNoise
from pipeline.track.overlap import Floats, Index, Streams, to_corners
from pipeline.track.tracker import CARRIED, CONFIRMED, TENTATIVE, Tracks

SMALLEST_STEP_SECONDS: Final = 0.001
"""What a time that does not rise counts as."""

# Rows of a track's state after those of its motion. Ids are whole numbers far below 2 ** 53, where float64 is exact.
SEEN_AT, BORN_AT, SCORE, CLASS, IDENTITY, HITS = range(STATE_ROWS, STATE_ROWS + 6)
ROWS: Final = STATE_ROWS + 6


@dataclass(frozen=True, slots=True)
class TrackerOptions:
    """What every tracker can be told. Times in seconds, scores and IoU 0-1."""

    high_score: float = 0.6
    """Detections from here up are trusted."""
    new_track_score: float = 0.7
    """An unclaimed detection from here up starts a track."""
    confirm_hits: int = 2
    """A track is confirmed by this many detections in a row. In an epoch's first frame one is enough."""
    lost_seconds: float = 3.0
    """A confirmed track that is not seen for longer is forgotten."""
    carry_seconds: float = 0.0
    """Confirmed tracks not seen for up to this long are still reported, as ``CARRIED``."""
    max_tracks: int = 2000
    """State is bounded: beyond this, the tracks that were not seen for longest are forgotten."""
    noise: MotionNoise = DEFAULT_NOISE

    def __post_init__(self) -> None:
        if self.confirm_hits < 1 or self.max_tracks < 1:
            raise ValueError(
                f"confirm_hits and max_tracks must be at least 1, got {self.confirm_hits} and {self.max_tracks}"
            )
        if not (0.0 <= self.lost_seconds < math.inf and 0.0 <= self.carry_seconds < math.inf):
            raise ValueError(
                f"lost_seconds and carry_seconds must be 0 or more, got {self.lost_seconds} and {self.carry_seconds}"
            )


@dataclass(slots=True)
class Scene:
    """One update of a batch: the tracks of all its streams, carried to now, a column a track."""

    state: Floats
    """``[ROWS or more, T]``. Written to by the update."""
    streams: Streams
    now: Floats | float
    """Seconds: one number for a single stream, else ``[T]``."""
    previous: Floats | float
    """Seconds: time of the stream's update before this one."""
    boxes: Floats
    """``[4, T]`` centre x, y, width, height, where the tracks should be now."""
    corners: Floats


class BaseTracker:
    """State and bookkeeping of one stream. Subclasses say who takes which detection."""

    rows = ROWS
    trusted_share: ClassVar[float] = 0.0

    def __init__(self, options: TrackerOptions) -> None:
        self._options = options
        self._motion = Motion(options.noise)
        self._last_id = 0
        self.reset()

    @property
    def least_score(self) -> float:
        """Detections below this score are not looked at."""
        return self._options.high_score

    # What a subclass gives. All act on a whole batch, so they must not use this tracker's own state.

    def _associate(self, scene: Scene, found: Arranged) -> tuple[Index, Index]:
        """Return who takes what: columns of ``scene`` and columns of ``found``, none twice."""
        raise NotImplementedError

    def _absorb(self, taken: Floats, elapsed: Floats, boxes: Floats, step: Floats | float) -> None:
        """Take the detected ``boxes [4, M]`` into the states ``taken [rows, M]``, in place.

        ``elapsed [M]``: seconds since each track was seen; ``step``: since its stream's last update, one or ``[M]``.
        """
        self._motion.correct(taken, boxes, elapsed)

    def _begin(self, state: Floats, boxes: Floats) -> None:
        """Fill the motion of new tracks."""
        self._motion.begin(state, boxes)

    # The contract of Tracker.

    def update(self, xyxy: FloatArray, scores: FloatArray, class_ids: IntArray, time_seconds: float) -> Tracks:
        """Take in one inferred frame and return its tracks."""
        return self._update([self], [(xyxy, scores, class_ids)], [time_seconds])[0]

    def predict(self, time_seconds: float) -> Tracks:
        """Return the confirmed tracks of the last update, carried to ``time_seconds``. Changes nothing."""
        state, now = self._state, max(time_seconds, self._seen_until + SMALLEST_STEP_SECONDS)
        oldest = self._seen_until - self._options.carry_seconds
        state = state[:, (state[HITS] >= self._options.confirm_hits) & (state[SEEN_AT] >= oldest)]
        boxes = self._motion.predict_boxes(state, now - state[SEEN_AT])
        count = state.shape[1]
        carried = np.full(count, CARRIED, np.uint8)
        return _tracks(state, report_boxes(boxes), now, carried, np.full(count, -1, np.int32))

    def reset(self) -> None:
        """Start a new epoch. Identities go on counting, so none of before returns."""
        self._state = np.zeros((self.rows, 0))
        self._seen_until = -math.inf

    def batch_key(self) -> Hashable:
        """Trackers with equal keys may share a batch."""
        return type(self), self._options

    def update_batch(
        self, trackers: Sequence[BaseTracker], detections: Sequence[Detections], times_seconds: Sequence[float]
    ) -> list[Tracks]:
        """Update all of ``trackers`` (equal keys, each once), one frame each."""
        return self._update(trackers, [(one.xyxy, one.scores, one.class_ids) for one in detections], times_seconds)

    # One update.

    def _update(
        self,
        trackers: Sequence[BaseTracker],
        frames: Sequence[tuple[FloatArray, FloatArray, IntArray]],
        times_seconds: Sequence[float],
    ) -> list[Tracks]:
        found = arrange(frames, self.least_score)
        times = [tracker._step_to(time) for tracker, time in zip(trackers, times_seconds, strict=True)]
        scene = self._gather(trackers, times)
        tracks, detections = self._associate(scene, found)
        state = scene.state
        if len(tracks):
            taken = state.take(tracks, axis=1)
            now, previous = _of(scene.now, tracks), _of(scene.previous, tracks)
            self._absorb(taken, now - taken[SEEN_AT], found.boxes.take(detections, axis=1), now - previous)
            taken[SEEN_AT] = now
            taken[SCORE] = found.scores[detections]
            taken[HITS] += 1.0
            state[:, tracks] = taken
        took = np.full(state.shape[1], -1, dtype=np.intp)
        took[tracks] = detections
        state, took, counts = self._turn_over(trackers, scene, found, took, times)
        results = self._report(state, found, took, counts, times)
        start = 0
        for tracker, count, time in zip(trackers, counts, times, strict=True):
            tracker._state = state if len(trackers) == 1 else state[:, start : start + count].copy()
            tracker._seen_until = time
            start += count
        return results

    def _step_to(self, time_seconds: float) -> float:
        if not math.isfinite(time_seconds):
            raise ValueError(f"time_seconds must be finite, got {time_seconds}")
        return max(time_seconds, self._seen_until + SMALLEST_STEP_SECONDS)

    def _gather(self, trackers: Sequence[BaseTracker], times: list[float]) -> Scene:
        states = [tracker._state for tracker in trackers]
        streams = Streams.of([state.shape[1] for state in states])
        state = states[0] if len(states) == 1 else np.concatenate(states, axis=1)
        now = streams.spread(times)
        previous = streams.spread([tracker._seen_until for tracker in trackers])
        boxes = self._motion.predict_boxes(state, now - state[SEEN_AT])
        return Scene(state, streams, now, previous, boxes, to_corners(boxes))

    def _turn_over(
        self, trackers: Sequence[BaseTracker], scene: Scene, found: Arranged, took: Index, times: list[float]
    ) -> tuple[Floats, Index, list[int]]:
        """Forget tracks whose time is over, start new ones; returns the state, who took what, and counts by stream."""
        options, state, streams = self._options, scene.state, scene.streams
        missed = took < 0
        forgotten = missed & (
            (scene.now - state[SEEN_AT] > options.lost_seconds) | (state[HITS] < options.confirm_hits)
        )
        if forgotten.any():
            stays = (~forgotten).nonzero()[0]
            state, took, streams = state.take(stays, axis=1), took[stays], streams.take(stays)
        unclaimed = found.scores >= options.new_track_score
        unclaimed[took[took >= 0]] = False
        born = unclaimed.nonzero()[0]
        if len(born):
            state, took, streams = self._start(trackers, state, took, streams, found, born, times)
        if max(streams.counts) > options.max_tracks:
            stays = _seen_last(state[SEEN_AT], streams, options.max_tracks)
            state, took, streams = state.take(stays, axis=1), took[stays], streams.take(stays)
        return state, took, streams.counts

    def _start(
        self,
        trackers: Sequence[BaseTracker],
        state: Floats,
        took: Index,
        streams: Streams,
        found: Arranged,
        born: Index,
        times: list[float],
    ) -> tuple[Floats, Index, Streams]:
        new_streams = found.streams.take(born)
        fresh = np.zeros((self.rows, len(born)))
        self._begin(fresh, found.boxes.take(born, axis=1))
        fresh[SEEN_AT] = fresh[BORN_AT] = new_streams.spread(times)
        fresh[SCORE] = found.scores[born]
        fresh[CLASS] = found.class_ids[born]
        first_hits = [
            1.0 if math.isfinite(tracker._seen_until) else float(self._options.confirm_hits) for tracker in trackers
        ]
        fresh[HITS] = new_streams.spread(first_hits)
        start = 0
        for tracker, count in zip(trackers, new_streams.counts, strict=True):
            fresh[IDENTITY, start : start + count] = np.arange(tracker._last_id + 1, tracker._last_id + 1 + count)
            tracker._last_id += count
            start += count
        state = np.concatenate([state, fresh], axis=1)
        took = np.concatenate([took, born])
        if streams.of_column is None or new_streams.of_column is None:
            return state, took, Streams(None, [state.shape[1]])
        of_column = np.concatenate([streams.of_column, new_streams.of_column])
        order = of_column.argsort(kind="stable")
        counts = [old + new for old, new in zip(streams.counts, new_streams.counts, strict=True)]
        return state.take(order, axis=1), took[order], Streams(of_column[order], counts)

    def _report(
        self, state: Floats, found: Arranged, took: Index, counts: list[int], times: list[float]
    ) -> list[Tracks]:
        """Tracks seen in this frame, and those carried for not longer than wanted."""
        options, streams = self._options, Streams.of(counts)
        now = streams.spread(times)
        seen = took >= 0
        confirmed = state[HITS] >= options.confirm_hits
        boxes = state[:4]
        if options.carry_seconds > 0.0:
            boxes = self._motion.predict_boxes(state, now - state[SEEN_AT])
            told = (seen | (confirmed & (now - state[SEEN_AT] <= options.carry_seconds))).nonzero()[0]
        else:
            told = seen.nonzero()[0]
        states = np.where(seen, np.where(confirmed, np.uint8(CONFIRMED), np.uint8(TENTATIVE)), np.uint8(CARRIED))[told]
        rows = np.full(len(told), -1, np.int32)
        if len(found):
            rows = np.where(seen[told], found.rows[took[told]], -1).astype(np.int32)
        boxes_told = report_boxes(boxes.take(told, axis=1))
        whole = _tracks(state.take(told, axis=1), boxes_told, _of(now, told), states, rows)
        if streams.of_column is None:
            return [whole]
        results, start = [], 0
        for count in streams.take(told).counts:
            results.append(whole.take(slice(start, start + count)))
            start += count
        return results


def _of(per_column: Floats | float, columns: Index) -> Floats | float:
    return per_column if isinstance(per_column, float) else per_column[columns]


def _tracks(state: Floats, xyxy: FloatArray, now: Floats | float, states: NDArray[np.uint8], rows: IntArray) -> Tracks:
    return Tracks(
        xyxy=xyxy,
        scores=state[SCORE].astype(np.float32),
        class_ids=state[CLASS].astype(np.int32),
        track_ids=state[IDENTITY].astype(np.int64),
        ages_seconds=(now - state[BORN_AT]).astype(np.float32),
        states=states,
        detection_index=rows,
    )


def _seen_last(seen_at: Floats, streams: Streams, most: int) -> Index:
    """Columns of the ``most`` tracks of each stream that were seen last, in order; ties go to the older track."""
    kept, start = [], 0
    for count in streams.counts:
        newest = (-seen_at[start : start + count]).argsort(kind="stable")[:most]
        kept.append(start + np.sort(newest))
        start += count
    return np.concatenate(kept)
