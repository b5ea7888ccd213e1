"""How well detections match the truth: average precision at IoU 0.5, COCO's way, without its tools."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from . import CLASS_NAMES

Floats = NDArray[np.float64]


def pairwise_iou(first: Floats, second: Floats, over_first: bool = False) -> Floats:
    """IoU ``[N, M]`` of xyxy boxes ``[N, 4]`` and ``[M, 4]``; or the intersection over the first box alone."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    first_area = np.prod(first[:, 2:] - first[:, :2], axis=1)[:, None]
    second_area = np.prod(second[:, 2:] - second[:, :2], axis=1)[None]
    return shared / np.maximum(first_area if over_first else first_area + second_area - shared, 1e-9)


def suppress(boxes: Floats, scores: Floats, classes: Floats, iou: float = 0.6, most: int = 300) -> NDArray[np.int64]:
    """Indices kept by non-maximum suppression within each class, best first."""
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while len(order) and len(kept) < most:
        best, rest = int(order[0]), order[1:]
        kept.append(best)
        overlaps = pairwise_iou(boxes[best : best + 1], boxes[rest])[0]
        order = rest[(overlaps <= iou) | (classes[rest] != classes[best])]
    return np.asarray(kept, dtype=np.int64)


def read_output(output: NDArray[np.float32], least_score: float = 0.01) -> Floats:
    """Detections ``[K, 6]`` (xyxy in input pixels, score, class) from one frame's head output ``[4 + classes, A]``."""
    best = output[4:].max(axis=0)
    picked = output[:, best > least_score].astype(np.float64)
    centre, half = picked[:2].T, picked[2:4].T / 2
    boxes = np.hstack([centre - half, centre + half])
    scores, classes = picked[4:].max(axis=0), picked[4:].argmax(axis=0)
    kept = suppress(boxes, scores, classes)
    return np.column_stack([boxes[kept], scores[kept], classes[kept]])


def _match(detections: Floats, truth: Floats) -> list[tuple[float, bool]]:
    """(score, right) of one frame's detections of one class; those that fall on ignored truth are left out.

    ``detections`` are ``[K, 5]`` xyxy and score; ``truth`` is ``[M, 5]`` xyxy and 1 if ignored.
    """
    asked, ignored = truth[truth[:, 4] == 0, :4], truth[truth[:, 4] == 1, :4]
    free = np.ones(len(asked), bool)
    results = []
    for detection in detections[np.argsort(-detections[:, 4], kind="stable")]:
        box = detection[None, :4]
        overlaps = np.where(free, pairwise_iou(box, asked)[0], 0.0)
        if len(asked) and overlaps.max() >= 0.5:
            free[overlaps.argmax()] = False
            results.append((float(detection[4]), True))
        elif not len(ignored) or pairwise_iou(box, ignored, over_first=True).max() < 0.5:
            results.append((float(detection[4]), False))
    return results


def average_precision(results: list[tuple[float, bool]], asked: int) -> float:
    """The mean precision over 101 recalls, given each detection's (score, right)."""
    if not asked or not results:
        return 0.0
    right = np.array([hit for _, hit in sorted(results, key=lambda result: -result[0])])
    hits = right.cumsum()
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    at = np.searchsorted(hits / asked, np.linspace(0, 1, 101) - 1e-12)
    return float(np.where(at < len(precision), precision[np.minimum(at, len(precision) - 1)], 0.0).mean())


def ap50(detections: list[Floats], truth: list[Floats]) -> dict[str, float]:
    """AP50 by class name, and ``mean`` over the classes present.

    One entry a frame: detections ``[K, 6]`` (xyxy, score, class), truth ``[M, 6]`` (xyxy, class, 1 if ignored).
    """
    report = {}
    for class_id, name in enumerate(CLASS_NAMES):
        results: list[tuple[float, bool]] = []
        asked = 0
        for found, wanted in zip(detections, truth, strict=True):
            wanted_here = wanted[wanted[:, 4] == class_id][:, [0, 1, 2, 3, 5]]
            asked += int((wanted_here[:, 4] == 0).sum())
            results += _match(found[found[:, 5] == class_id][:, :5], wanted_here)
        if asked:
            report[name] = average_precision(results, asked)
    return {**report, "mean": float(np.mean(list(report.values())))}
