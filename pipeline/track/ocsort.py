"""OC-SORT: trust what was observed over what was predicted.

Paper: Cao et al., "Observation-Centric SORT: Rethinking SORT for Robust Multi-Object Tracking", CVPR 2023.
Its three parts, in seconds instead of frames: momentum (section 4.2) favours detections in the direction in which the
track was seen to move; recovery gives tracks without a detection a second try from where they were last seen; re-update
(section 4.1) lets a track that was lost relive its gap along a straight virtual path, so that the error of the time in
between is not carried on. The filter's state is centre and size instead of the paper's centre, area and aspect ratio.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from pipeline.track.arrange import Arranged
from pipeline.track.assignment import match
from pipeline.track.batch_tracker import CLASS, ROWS, BaseTracker, Scene, TrackerOptions
from pipeline.track.motion import MotionNoise
from pipeline.track.overlap import Floats, Index, overlapping_pairs, to_corners

_PAST_SIGHTINGS: Final = 3
_MOST_VIRTUAL_STEPS: Final = 4
_OBSERVED: Final = slice(ROWS, ROWS + 4)  # the last detected box: centre x, y, width, height
_PAST: Final = slice(ROWS + 4, ROWS + 4 + 2 * _PAST_SIGHTINGS)  # centres of the detections before it, newest first
_OLDEST: Final = slice(_PAST.stop - 2, _PAST.stop)

_NOISE: Final = MotionNoise(acceleration=(0.7, 0.1))  # trusts its own velocity less than ByteTrack does


@dataclass(frozen=True, slots=True)
class OcSortOptions(TrackerOptions):
    """Scores and IoU 0-1."""

    new_track_score: float = 0.6
    """An unclaimed detection from here up starts a track."""
    least_iou: float = 0.2
    """How well a detection must fit where its track should be, or where it was last seen."""
    momentum_weight: float = 0.2
    """What going on in the same direction is worth beside IoU: half of this more, to half of this less."""

    noise: MotionNoise = _NOISE

    def __post_init__(self) -> None:
        TrackerOptions.__post_init__(self)
        if not 0.0 <= self.momentum_weight < 2.0 * self.least_iou:
            raise ValueError(
                f"momentum_weight must be 0 or more and below twice least_iou ({2.0 * self.least_iou:g}), "
                f"got {self.momentum_weight}"
            )


class OcSortTracker(BaseTracker):
    """Two rounds over the detections from ``high_score`` up, each an exact matching within one class: by IoU with the
    predicted box plus momentum, then by IoU with the last detected box.
    """

    rows = _PAST.stop
    _options: OcSortOptions

    def __init__(self, **options: Any) -> None:
        super().__init__(OcSortOptions(**options))

    def _begin(self, state: Floats, boxes: Floats) -> None:
        self._motion.begin(state, boxes)
        state[_OBSERVED] = boxes
        state[_PAST] = np.tile(boxes[:2], (_PAST_SIGHTINGS, 1))

    def _absorb(self, taken: Floats, elapsed: Floats, boxes: Floats, step: Floats | float) -> None:
        """Take in the detections; a track that missed updates first relives them on a straight path."""
        missed = elapsed > 1.5 * step
        if missed.any():
            elapsed = self._relive(taken, elapsed, boxes, step, missed.nonzero()[0])
        self._motion.correct(taken, boxes, elapsed)
        taken[_PAST.start + 2 : _PAST.stop] = taken[_PAST.start : _PAST.stop - 2].copy()
        taken[_PAST.start : _PAST.start + 2] = taken[_OBSERVED][:2]
        taken[_OBSERVED] = boxes

    def _relive(self, taken: Floats, elapsed: Floats, boxes: Floats, step: Floats | float, columns: Index) -> Floats:
        """Take tracks ``columns`` on a straight path to their box, except for its last step; returns seconds to go."""
        steps = np.minimum(np.rint((elapsed / step)[columns]), _MOST_VIRTUAL_STEPS)
        pace = elapsed[columns] / steps
        gone = taken.take(columns, axis=1)
        stride = (boxes.take(columns, axis=1) - gone[_OBSERVED]) / steps
        for number in range(1, int(steps.max())):
            going = (steps > number).nonzero()[0]
            part = gone.take(going, axis=1)
            self._motion.correct(part, part[_OBSERVED] + number * stride.take(going, axis=1), pace[going])
            gone[:, going] = part
        taken[:, columns] = gone
        left = elapsed.copy()
        left[columns] = pace
        return left

    def _associate(self, scene: Scene, found: Arranged) -> tuple[Index, Index]:
        tracks, detections, iou = overlapping_pairs(
            scene.corners, scene.streams, found.corners, found.streams, self._options.least_iou
        )
        same = scene.state[CLASS][tracks] == found.class_ids[detections]
        if not same.all():
            tracks, detections, iou = tracks[same], detections[same], iou[same]
        if len(tracks):
            worth = iou + self._momentum(scene, found, tracks, detections)
            won = match(tracks, detections, worth)
            tracks, detections = tracks[won], detections[won]
        return self._recover(scene, found, tracks, detections)

    def _momentum(self, scene: Scene, found: Arranged, tracks: Index, detections: Index) -> Floats:
        """``[E]``: half the momentum weight for a detection straight ahead, minus half for one straight behind."""
        seen = scene.state[_OBSERVED][:2]
        came = (seen - scene.state[_OLDEST]).take(tracks, axis=1)
        goes = found.boxes[:2].take(detections, axis=1) - seen.take(tracks, axis=1)
        turn = np.abs(np.arctan2(came[0] * goes[1] - came[1] * goes[0], came[0] * goes[0] + came[1] * goes[1]))
        favour = self._options.momentum_weight * (0.5 - turn / np.pi)
        moved = (came[0] != 0.0) | (came[1] != 0.0)
        return np.where(moved, favour * found.scores[detections], 0.0)

    def _recover(self, scene: Scene, found: Arranged, tracks: Index, detections: Index) -> tuple[Index, Index]:
        """Tracks that are left take the detections that are left, from where they were last seen."""
        free_track, free_detection = np.ones(scene.state.shape[1], bool), np.ones(len(found), bool)
        free_track[tracks] = False
        free_detection[detections] = False
        left_tracks, left_detections = free_track.nonzero()[0], free_detection.nonzero()[0]
        if len(left_tracks) == 0 or len(left_detections) == 0:
            return tracks, detections
        first, second, iou = overlapping_pairs(
            to_corners(scene.state[_OBSERVED].take(left_tracks, axis=1)),
            scene.streams.take(left_tracks),
            found.corners.take(left_detections, axis=1),
            found.streams.take(left_detections),
            self._options.least_iou,
        )
        first, second = left_tracks[first], left_detections[second]
        same = scene.state[CLASS][first] == found.class_ids[second]
        first, second, iou = first[same], second[same], iou[same]
        won = match(first, second, iou)
        return np.concatenate([tracks, first[won]]), np.concatenate([detections, second[won]])
