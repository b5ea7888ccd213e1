"""Writes ``oracle_golden.json``: what the oracle library makes of the MOT sequences.

The oracle is ``trackers`` (Roboflow, Apache-2.0). It is needed here and in the benchmark only, never by the tests:

    python -m venv oracle && oracle/bin/pip install trackers==2.6.1
    oracle/bin/python -m tests.track.make_oracle_golden
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tests.track.mot_data import DROPS, SCORE_SETTINGS, SEQUENCES, TrackFrame, load, run
from tests.track.mot_metrics import Boxes, Floats, evaluate

GOLDEN = Path(__file__).with_name("oracle_golden.json")


def oracle(make: Callable[[], Any], timed: bool) -> TrackFrame:
    """An oracle tracker; ``timed``: told each frame's time, else it takes the frames that arrive as consecutive."""
    import supervision

    tracker = make()

    def track_frame(xyxy: Floats, scores: Floats, time_seconds: float) -> Boxes:
        detections = supervision.Detections(
            xyxy=xyxy.astype(np.float32).reshape(-1, 4),
            confidence=scores.astype(np.float32),
            class_id=np.zeros(len(scores), dtype=int),
        )
        tracked = tracker.update(detections, timestamp=time_seconds if timed else None)
        known = tracked.tracker_id >= 0
        return Boxes(tracked.tracker_id[known].astype(np.int64), tracked.xyxy[known].astype(np.float64))

    return track_frame


def makers(high: float, new: float, frames_per_second: float) -> dict[str, Callable[[], Any]]:
    """The oracle's counterparts of our trackers, at its own defaults except the scores.

    ``bytetrack_at_best``: its ByteTrack with the options, of 24 sets, that give it the highest mean IDF1 on these
    sequences with every frame (both state estimators, IoU 0.1 and 0.3 to 0.7, 1 to 3 consecutive frames, a buffer of 30
    to 90 frames). Ours is not tuned like that.
    """
    import trackers
    from trackers.utils.state_representations import XCYCSRStateEstimator

    return {
        "bytetrack": lambda: trackers.ByteTrackTracker(
            frame_rate=frames_per_second, high_conf_det_threshold=high, track_activation_threshold=new
        ),
        "bytetrack_at_best": lambda: trackers.ByteTrackTracker(
            frame_rate=frames_per_second,
            high_conf_det_threshold=high,
            track_activation_threshold=new,
            minimum_iou_threshold=0.4,
            state_estimator_class=XCYCSRStateEstimator,
        ),
        "ocsort": lambda: trackers.OCSORTTracker(frame_rate=frames_per_second, high_conf_det_threshold=high),
    }


def main() -> None:
    results: dict[str, Any] = {}
    for name in SEQUENCES:
        sequence = load(name)
        for setting, (high, new) in SCORE_SETTINGS.items():
            for tracker, make in makers(high, new, sequence.frames_per_second).items():
                for drop in DROPS:
                    for timing in ("timed", "untimed"):
                        scores = evaluate(*run(sequence, drop, oracle(make, timing == "timed")))
                        row = {
                            "hota": round(scores.hota, 3),
                            "mota": round(scores.mota, 3),
                            "idf1": round(scores.idf1, 3),
                            "switches": scores.switches,
                        }
                        results.setdefault(tracker, {}).setdefault(name, {}).setdefault(setting, {}).setdefault(
                            drop, {}
                        )[timing] = row
    document = {"oracle": f"trackers {version('trackers')}", "results": results}
    GOLDEN.write_text(json.dumps(document, indent=1) + "\n")
    print(f"wrote {GOLDEN}")


if __name__ == "__main__":
    main()
