"""A detector on a dataset: what ``onpace eval`` runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from engines.model_spec import ModelSpec
from engines.precision.typed_model import Calibration, Precision
from engines.runtime import Runtime, RuntimeOptions, open_runtime
from pipeline.accuracy.average_precision import Accuracy, measure
from pipeline.accuracy.dataset import Dataset
from pipeline.accuracy.detect import detect
from pipeline.detections import Detections, IntArray
from pipeline.errors import InputError
from pipeline.frame import Size
from pipeline.postprocess.head import open_head
from pipeline.postprocess.postprocess import Postprocess
from pipeline.preprocess.host import HostPreprocess

MAX_CANDIDATES = 5000
"""More than a pipeline compares: a threshold near 0 lets much through, and the metric rewards long tails."""


def evaluate(
    model: Path,
    spec: ModelSpec,
    dataset: Dataset,
    *,
    runtime: str = "auto",
    precision: Precision | None = None,
    calibration: Calibration | None = None,
    literal: bool = False,
    score_threshold: float = 0.01,
    iou_threshold: float = 0.65,
    max_detections: int = 100,
    every_class: bool = True,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[Accuracy, str]:
    """Return the accuracy and the runtime's own description; ``progress`` hears how many pictures are done.

    ``literal``: a CPU runs a file in eight bits step by step as it says (``RuntimeOptions.literal``).
    Raises InputError where model and dataset do not share classes, ModelError, RuntimeMissingError, RunError.
    """
    match_classes(spec, dataset)
    options = RuntimeOptions(prefer="latency", precision=precision, calibration=calibration, literal=literal)
    with open_runtime(runtime, model, spec, options) as opened:
        accuracy = evaluate_on(
            opened,
            spec,
            dataset,
            score_threshold=score_threshold,
            iou_threshold=iou_threshold,
            max_detections=max_detections,
            every_class=every_class,
            progress=progress,
        )
        return accuracy, opened.describe()


def evaluate_on(
    opened: Runtime,
    spec: ModelSpec,
    dataset: Dataset,
    *,
    score_threshold: float = 0.01,
    iou_threshold: float = 0.65,
    max_detections: int = 100,
    every_class: bool = True,
    progress: Callable[[int], None] = lambda done: None,
) -> Accuracy:
    """Return the accuracy on a runtime that is open, whose first slot nobody else uses meanwhile. Raises as above."""
    to_dataset = match_classes(spec, dataset)
    postprocess = Postprocess(
        spec,
        open_head(spec),
        score_threshold=score_threshold,
        iou_threshold=iou_threshold,
        max_detections=max_detections,
        every_class=every_class,
        max_candidates=MAX_CANDIDATES,
    )
    sizes: list[Size] = []
    found: list[Detections] = []
    slot = opened.slots[0]
    paths = [picture.path for picture in dataset.pictures]
    for frame, detections in detect(paths, slot, HostPreprocess(spec, slot.input), postprocess):
        sizes.append(frame.size)
        found.append(_renumbered(detections, to_dataset))
        progress(len(found))
    return measure(dataset.pictures, sizes, found)


def match_classes(spec: ModelSpec, dataset: Dataset) -> IntArray | None:
    """Return the dataset's class id of each of the model's (-1: not in it); None where the numbers are the same.

    Names decide where both sides have them, else numbers. Raises InputError where they cannot belong together.
    """
    names = spec.class_names
    named = bool(dataset.class_names) and any(name != str(index) for index, name in enumerate(names))
    if named:
        place = {_plain(name): index for index, name in enumerate(dataset.class_names)}
        matched = np.array([place.get(_plain(name), -1) for name in names], np.int32)
        if (matched >= 0).any():
            return matched
        raise InputError(
            f"model {spec.name} ({names[0]}, ...) and the dataset ({dataset.class_names[0]}, ...) share no class name. "
            "State the model's: --set classes=FILE."
        )
    highest = max((label.class_id for picture in dataset.pictures for label in picture.labels), default=-1)
    if names and highest >= len(names):
        raise InputError(
            f"model {spec.name} has {len(names)} classes, the dataset labels class {highest}. "
            "State the model's class names: --set classes=FILE."
        )
    return None


def _renumbered(detections: Detections, to_dataset: IntArray | None) -> Detections:
    if to_dataset is None or len(detections) == 0:
        return detections
    known = detections.class_ids < len(to_dataset)
    class_ids = np.where(known, to_dataset[np.where(known, detections.class_ids, 0)], -1).astype(np.int32)
    keep = class_ids >= 0
    return replace(detections, xyxy=detections.xyxy[keep], scores=detections.scores[keep], class_ids=class_ids[keep])


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", " ").replace("-", " ")
