"""A batch: the frames that are taken and handed on together, and what became of them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from pipeline.detections import Detections
from pipeline.frame import Frame, count_by_stream


@dataclass(frozen=True, slots=True)
class InferredFrame:
    """One frame with its detections and where its time went, in seconds."""

    frame: Frame
    detections: Detections
    preprocess_seconds: float
    infer_seconds: float
    """The run of the whole batch: every frame of it waited that long."""
    postprocess_seconds: float
    carried: bool = False
    """The model did not see it: its stream's stride left it out, and its tracks are carried to it."""
    input_size: tuple[int, int] | None = None
    """Width and height of the model's input, in pixels, where there are several; None: the model's only one."""


@dataclass(frozen=True, slots=True)
class FailedFrame:
    """One frame without a result."""

    frame: Frame
    stage: str
    """Where it failed: "preprocess", "infer" or "postprocess"."""
    error: str


@dataclass(slots=True)
class Batch:
    """Frames taken together, in the order of ``ticket``. Once run, each is in ``results()`` or in ``failed``.

    One run of the model, or a few where runs are very short.
    """

    ticket: int
    """Counts batches from 0 in the order in which they were taken: results are published in that order."""
    frames: list[Frame]
    """Those to be inferred; may be empty where others pass."""
    taken_at: float = 0.0
    """Monotonic clock, in seconds."""
    passing: list[Frame] = field(default_factory=list)
    """Those that pass the model by."""
    inferred: list[InferredFrame] = field(default_factory=list)
    failed: list[FailedFrame] = field(default_factory=list)

    def by_stream(self) -> dict[str, int]:
        """Return stream id -> how many frames of it were taken."""
        return count_by_stream([*self.passing, *self.frames] if self.passing else self.frames)

    def results(self) -> list[InferredFrame]:
        """Return every frame that has a result; those of one stream in the order in which they came."""
        if not self.passing:
            return self.inferred
        streams: dict[str, list[InferredFrame]] = {}
        for result in (*self.inferred, *(_carried(frame) for frame in self.passing)):
            streams.setdefault(result.frame.stream_id, []).append(result)
        for results in streams.values():
            results.sort(key=lambda result: result.frame.index)
        # In turns, because frames of different streams in a row are tracked together.
        turns = itertools.zip_longest(*streams.values())
        return [result for turn in turns for result in turn if result is not None]


def _carried(frame: Frame) -> InferredFrame:
    return InferredFrame(frame, Detections.empty(), 0.0, 0.0, 0.0, carried=True)
