"""The bundled detector and pictures of its clip, for tests that compare what two ways find there."""

from __future__ import annotations

import numpy as np

from engines.inspect_model import read_model_spec
from pipeline.detections import Detections
from pipeline.frame import Frame
from tests.helpers.onpace_process import REPOSITORY
from tests.source.playing import play
from tests.track.mot_metrics import box_iou

MODEL = REPOSITORY / "samples" / "street.onnx"
CLIP = REPOSITORY / "samples" / "street.mp4"
SPEC = read_model_spec(MODEL)


def frames_of(pictures) -> list[Frame]:
    """Return decoded pictures as the frames of one stream."""
    return [
        Frame("street", 1, index, one.planes, one.colour, one.rotation, *(0.0,) * 4, "file", 0.0, owner=one.owner)
        for index, one in enumerate(pictures)
    ]


def street_frames(count: int) -> list[Frame]:
    """Return so many frames, spread over the clip."""
    pictures = play(str(CLIP)).pictures
    return frames_of([pictures[place] for place in np.linspace(0, len(pictures) - 1, count).round().astype(int)])


def partner_ious(wanted: Detections, found: Detections, score: float) -> np.ndarray:
    """Return for each of the boxes ``wanted`` that score so much its largest IoU with one ``found`` of its class."""
    few = wanted.scores >= score
    ious = box_iou(wanted.xyxy[few], found.xyxy) * (wanted.class_ids[few, None] == found.class_ids[None])
    return ious.max(axis=1, initial=0.0)
