"""A batch: the frames that share one run of the model, and what became of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.detections import Detections
from pipeline.frame import Frame


@dataclass(frozen=True, slots=True)
class InferredFrame:
    """One frame with its detections and where its time went, in seconds."""

    frame: Frame
    detections: Detections
    preprocess_seconds: float
    infer_seconds: float
    """The run of the whole batch: every frame of it waited that long."""
    postprocess_seconds: float


@dataclass(frozen=True, slots=True)
class FailedFrame:
    """One frame without a result."""

    frame: Frame
    stage: str
    """Where it failed: "preprocess", "infer" or "postprocess"."""
    error: str


@dataclass(slots=True)
class Batch:
    """Frames taken together, in the order of ``ticket``. Once run, each is in ``inferred`` or in ``failed``."""

    ticket: int
    """Counts batches from 0 in the order in which they were taken: results are published in that order."""
    frames: list[Frame]
    taken_at: float = 0.0
    """Monotonic clock, in seconds."""
    inferred: list[InferredFrame] = field(default_factory=list)
    failed: list[FailedFrame] = field(default_factory=list)
