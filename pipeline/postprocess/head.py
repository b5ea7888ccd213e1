"""The protocol of every head, and the table that finds one by the model's family."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from engines.model_spec import ModelSpec
from engines.runtime import Tensors
from pipeline.detections import FloatArray, IntArray

HEADS: dict[str, str] = {  # ModelSpec.family -> "module:Class", imported on first use
    "yolov5": "pipeline.postprocess.yolov5:YoloV5Head",
    "yolov8": "pipeline.postprocess.yolov8:YoloV8Head",
    "yolox": "pipeline.postprocess.yolox:YoloXHead",
    "end_to_end": "pipeline.postprocess.end_to_end:EndToEndHead",
    "efficient_nms": "pipeline.postprocess.separate_outputs:SeparateOutputsHead",
    "detr": "pipeline.postprocess.separate_outputs:SeparateOutputsHead",
    "queries": "pipeline.postprocess.queries:QueriesHead",
    "split": "pipeline.postprocess.queries:SplitHead",
    "nanodet": "pipeline.postprocess.nanodet:NanoDetHead",
}


@dataclass(frozen=True, slots=True)
class Candidates:
    """Boxes of one picture above the score threshold, before suppression, in any order."""

    xyxy: FloatArray
    """float32 ``[N, 4]`` in pixels of the model's input."""
    scores: FloatArray
    """float32 ``[N]``."""
    class_ids: IntArray
    """int32 ``[N]``."""

    @staticmethod
    def none() -> Candidates:
        """What most frames of a quiet camera have: not worth the arithmetic on empty arrays."""
        return _NONE


_NONE = Candidates(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))


class Head(Protocol):
    """Reads one model family's outputs. Thread-safe: holds constants only."""

    def read(self, outputs: Tensors, row: int, score_threshold: float, *, every_class: bool = False) -> Candidates:
        """Return the candidates of picture ``row`` of the batch with ``score >= score_threshold``.

        A box is reported once, with its best class; with ``every_class`` once for each class that reaches the
        threshold, as COCO's metric is usually measured. Raises RunError for outputs that are not numbers.
        """


def open_head(spec: ModelSpec) -> Head:
    """Return the head of the model's family."""
    module_name, class_name = HEADS[spec.family].split(":")
    head: Head = getattr(importlib.import_module(module_name), class_name)(spec)
    return head
