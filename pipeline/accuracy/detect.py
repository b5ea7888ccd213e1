"""Pictures to detections through the product's own decoder, preprocessing, runtime and head, one at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from engines.runtime import Slot
from pipeline.accuracy.picture import read_picture
from pipeline.detections import Detections
from pipeline.frame import Frame
from pipeline.postprocess.postprocess import Postprocess
from pipeline.preprocess.host import HostPreprocess


def detect(
    paths: Iterable[Path], slot: Slot, preprocess: HostPreprocess, postprocess: Postprocess
) -> Iterator[tuple[Frame, Detections]]:
    """Yield each picture and what is found in it. Raises InputError for what is no picture, RunError."""
    for index, path in enumerate(paths):
        frame = read_picture(path, index)
        geometry = preprocess(frame, 0)
        yield frame, postprocess(slot.run(1), 0, geometry)
