"""COCO's average precision, by pycocotools."""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.accuracy.dataset import LabelledPicture, boxes_of
from pipeline.detections import Detections
from pipeline.errors import InputError
from pipeline.frame import Size


@dataclass(frozen=True, slots=True)
class Accuracy:
    """COCO's numbers, 0-1; of classes that have objects in the dataset only."""

    ap: float
    """Mean over IoU 0.50 to 0.95 in steps of 0.05."""
    ap50: float
    """At IoU 0.50."""
    classes: dict[int, tuple[float, float]]
    """Class id -> its own ``(ap, ap50)``."""


def measure(pictures: Sequence[LabelledPicture], sizes: Sequence[Size], found: Sequence[Detections]) -> Accuracy:
    """Return the accuracy of ``found``, one a picture, at most 100 boxes counted in each. Raises InputError."""
    try:
        coco = importlib.import_module("pycocotools.coco").COCO
        evaluator = importlib.import_module("pycocotools.cocoeval").COCOeval
    except ImportError as error:
        raise InputError(
            f"measuring accuracy needs pycocotools: {error}. Install it: pip install pycocotools."
        ) from error
    truth, results = coco(), _results(found)
    class_ids = sorted({label.class_id for picture in pictures for label in picture.labels})
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        truth.dataset = _truth(pictures, sizes, class_ids)
        truth.createIndex()
        evaluation = evaluator(truth, truth.loadRes(results) if results else _nothing_found(truth, coco), "bbox")
        evaluation.params.catIds = class_ids
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # [IoU, recall, class], all areas, 100 boxes
    return Accuracy(
        ap=_mean(precision),
        ap50=_mean(precision[0]),
        classes={
            class_id: (_mean(precision[:, :, index]), _mean(precision[0, :, index]))
            for index, class_id in enumerate(class_ids)
        },
    )


def _truth(pictures: Sequence[LabelledPicture], sizes: Sequence[Size], class_ids: Sequence[int]) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []
    for index, (picture, size) in enumerate(zip(pictures, sizes, strict=True)):
        for label, box in zip(picture.labels, boxes_of(picture, *size).tolist(), strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index,
                    "category_id": label.class_id,
                    "bbox": box,
                    "area": box[2] * box[3] if label.area is None else label.area,
                    "iscrowd": int(label.crowd),
                }
            )
    images = [{"id": index, "width": size.width, "height": size.height} for index, size in enumerate(sizes)]
    return {"images": images, "annotations": annotations, "categories": [{"id": class_id} for class_id in class_ids]}


def _results(found: Sequence[Detections]) -> list[dict[str, Any]]:
    return [
        {"image_id": index, "category_id": class_id, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}
        for index, detections in enumerate(found)
        for (x1, y1, x2, y2), score, class_id in zip(
            detections.xyxy.tolist(), detections.scores.tolist(), detections.class_ids.tolist(), strict=True
        )
    ]


def _nothing_found(truth: Any, coco: Any) -> Any:
    """Return an empty result set, which pycocotools cannot load itself."""
    nothing = coco()
    nothing.dataset = {**truth.dataset, "annotations": []}
    nothing.createIndex()
    return nothing


def _mean(precision: Any) -> float:
    """Return the mean of what was measured; -1 marks classes without objects."""
    measured = precision[precision > -1]
    return float(np.mean(measured)) if measured.size else 0.0
