"""Reads the MOT sequences that the quality tests use, and runs a tracker over them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tests.track.mot_metrics import Boxes, Floats, Ints

SEQUENCES = ("PETS09-S2L1", "TUD-Campus")
DROPS = ("none", "second", "third", "second_and_third")
SCORE_SETTINGS = {  # (score that is trusted, score that starts a track); scores: public ones / 100, cut to 0-1
    "strict": (0.6, 0.7),  # the oracle's defaults
    "middle": (0.4, 0.5),
    "lenient": (0.2, 0.3),
}

TrackFrame = Callable[[Floats, Floats, float], Boxes]
"""Takes one frame's ``xyxy [N, 4]``, ``scores [N]`` (0 to 1) and time in seconds; returns the confirmed tracks."""


@dataclass(frozen=True)
class Sequence:
    """One MOTChallenge sequence. Lists hold one entry a frame."""

    name: str
    frames_per_second: float
    truth: list[Boxes]
    reference: list[Boxes]
    xyxy: list[Floats]
    scores: list[Floats]


def data_folder() -> Path:
    """The folder ``mot`` of the test data, which may be absent."""
    beside = Path(__file__).parents[3] / "shared" / "data"
    return Path(os.environ.get("ONPACE_TEST_DATA", beside)) / "mot"


def load(name: str) -> Sequence:
    """Read a sequence; frames after the last one with ground truth are left out."""
    folder = data_folder() / name
    truth = np.loadtxt(folder / "gt" / "gt.txt", delimiter=",")
    frames = int(truth[:, 0].max())
    truth = truth[truth[:, 6] > 0]
    detections = np.loadtxt(folder / "det" / "det.txt", delimiter=",")
    detected = [detections[detections[:, 0] == frame] for frame in range(1, frames + 1)]
    reference = np.loadtxt(folder / "reference" / "MPNTrack.txt", delimiter=",")
    settings = dict(line.split("=", 1) for line in (folder / "seqinfo.ini").read_text().splitlines() if "=" in line)
    return Sequence(
        name=name,
        frames_per_second=float(settings["frameRate"]),
        truth=_by_frame(truth, frames),
        reference=_by_frame(reference, frames),
        xyxy=[_xyxy(rows) for rows in detected],
        scores=[np.clip(rows[:, 6] / 100.0, 0.0, 1.0) for rows in detected],
    )


def kept_frames(count: int, drop: str) -> Ints:
    """Which of ``count`` frames arrive: ``none`` dropped, ``second``, ``third``, or ``second_and_third`` of three."""
    index = np.arange(count)
    keep = {
        "none": index >= 0,
        "second": index % 2 != 1,
        "third": index % 3 != 2,
        "second_and_third": index % 3 == 0,
    }
    return index[keep[drop]]


def run(sequence: Sequence, drop: str, track_frame: TrackFrame) -> tuple[list[Boxes], list[Boxes]]:
    """Track the frames that arrive; returns their ground truth and the tracks, frame by frame."""
    truth, predicted = [], []
    for frame in kept_frames(len(sequence.truth), drop):
        seconds = float(frame) / sequence.frames_per_second
        predicted.append(track_frame(sequence.xyxy[frame], sequence.scores[frame], seconds))
        truth.append(sequence.truth[frame])
    return truth, predicted


def _by_frame(rows: npt.NDArray[np.float64], frames: int) -> list[Boxes]:
    picked = [rows[rows[:, 0] == frame] for frame in range(1, frames + 1)]
    return [Boxes(frame[:, 1].astype(np.int64), _xyxy(frame)) for frame in picked]


def _xyxy(rows: npt.NDArray[np.float64]) -> Floats:
    return np.concatenate([rows[:, 2:4], rows[:, 2:4] + rows[:, 4:6]], axis=1)
