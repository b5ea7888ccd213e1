"""ByteTrack: associate every detection box, the doubtful ones last.

Paper: Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", ECCV 2022.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.track.arrange import Arranged
from pipeline.track.assignment import match
from pipeline.track.batch_tracker import CLASS, HITS, SEEN_AT, BaseTracker, Scene, TrackerOptions
from pipeline.track.overlap import Index, overlapping_pairs


@dataclass(frozen=True, slots=True)
class ByteTrackOptions(TrackerOptions):
    """Scores and IoU 0-1."""

    low_score: float = 0.1
    """Detections between here and ``high_score`` may only prolong a track that was seen in the last update."""
    least_iou: float = 0.25
    """How well a trusted detection must fit where its track should be."""
    least_iou_doubtful: float = 0.4
    """The same for detections below ``high_score``."""
    least_iou_tentative: float = 0.1
    """The same for tracks that are not confirmed yet."""


class ByteTracker(BaseTracker):
    """Three rounds: confirmed and lost tracks take trusted detections; confirmed ones that are left take doubtful ones;
    tentative tracks take what trusted detections remain. Each round is an exact matching by IoU within one class.
    """

    trusted_share = 0.2  # so that there are doubtful detections at any score threshold
    _options: ByteTrackOptions

    def __init__(self, **options: Any) -> None:
        super().__init__(ByteTrackOptions(**options))

    @property
    def least_score(self) -> float:
        """Detections below this score are not looked at."""
        return min(self._options.low_score, self._options.high_score)

    def _associate(self, scene: Scene, found: Arranged) -> tuple[Index, Index]:
        options, state = self._options, scene.state
        least = min(options.least_iou, options.least_iou_doubtful, options.least_iou_tentative)
        tracks, detections, iou = overlapping_pairs(scene.corners, scene.streams, found.corners, found.streams, least)
        if len(tracks) == 0:
            return tracks, detections
        tentative = state[HITS] < options.confirm_hits
        lost = state[SEEN_AT] < scene.previous
        trusted = (found.scores >= options.high_score)[detections]
        tentative = tentative[tracks]
        needed = np.where(tentative, options.least_iou_tentative, options.least_iou)
        needed = np.where(trusted, needed, options.least_iou_doubtful)
        allowed = (iou >= needed) & (trusted | ~(tentative | lost[tracks]))
        allowed &= state[CLASS][tracks] == found.class_ids[detections]
        rounds = np.where(trusted, np.where(tentative, 2, 0), 1)
        if not allowed.all():
            tracks, detections, iou, rounds = tracks[allowed], detections[allowed], iou[allowed], rounds[allowed]
        won = match(tracks, detections, iou, rounds)
        return tracks[won], detections[won]
