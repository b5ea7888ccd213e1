"""Lays the detections of one or more streams side by side, in an order that does not depend on how they came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.detections import FloatArray, IntArray
from pipeline.track.overlap import Floats, Index, Streams, first_columns, to_corners


@dataclass(frozen=True, slots=True)
class Arranged:
    """Detections worth tracking, stream by stream, best score first; quantity-major, a column a detection."""

    boxes: Floats
    """float64 ``[4, N]``: centre x, y, width, height in source pixels."""
    corners: Floats
    """float64 ``[4, N]``: left, top, right, bottom."""
    scores: Floats
    class_ids: IntArray
    rows: Index
    """intp ``[N]``: the detection's row in its frame."""
    streams: Streams

    def __len__(self) -> int:
        return len(self.rows)


def arrange(frames: Sequence[tuple[FloatArray, FloatArray, IntArray]], least_score: float) -> Arranged:
    """Arrange one frame a stream: ``(xyxy [N, 4], scores [N], class_ids [N])``.

    Left out: scores below ``least_score``, boxes that are empty, reversed or not finite.
    Equal scores are ordered by class and box, so that a permutation of the input changes nothing.
    """
    for xyxy, scores, class_ids in frames:
        if xyxy.shape != (len(scores), 4) or len(class_ids) != len(scores):
            raise ValueError(
                f"xyxy, scores and class_ids must be [N, 4], [N] and [N], got {xyxy.shape}, {scores.shape} and "
                f"{class_ids.shape}"
            )
    if len(frames) == 1:
        xyxy, scores, class_ids = frames[0]
        order = (-scores).argsort(kind="stable")
    else:
        xyxy, scores, class_ids = (np.concatenate(arrays) for arrays in zip(*frames, strict=True))
        counts = [len(scores) for _, scores, _ in frames]
        of_row = np.repeat(np.arange(len(frames)), counts)
        order = np.lexsort((-scores, of_row))
    sorted_scores = scores[order]
    if (sorted_scores[1:] == sorted_scores[:-1]).any():
        ties = (xyxy[:, 3], xyxy[:, 2], xyxy[:, 1], xyxy[:, 0], class_ids, -scores)
        order = np.lexsort(ties if len(frames) == 1 else (*ties, of_row))
        sorted_scores = scores[order]
    with np.errstate(invalid="ignore", over="ignore"):  # boxes that are not finite are left out below
        corners = xyxy[order].T.astype(np.float64, order="C")
        size = corners[2:] - corners[:2]
        area = size[0] * size[1]
        usable = (sorted_scores >= least_score) & (size[0] > 0.0) & (area > 0.0) & (area < np.inf)
    if not usable.all():
        kept = usable.nonzero()[0]
        order, sorted_scores, corners, size = order[kept], sorted_scores[kept], corners[:, kept], size[:, kept]
    boxes = np.empty_like(corners)
    np.multiply(corners[:2] + corners[2:], 0.5, out=boxes[:2])
    boxes[2:] = size
    rows: Index = order
    streams = Streams(None, [len(order)])
    if len(frames) > 1:
        of_column = of_row[order]
        streams = Streams(of_column, np.bincount(of_column, minlength=len(frames)).tolist())
        rows = order - first_columns(counts)[of_column]
    return Arranged(boxes, corners, sorted_scores.astype(np.float64), class_ids[order], rows, streams)


def report_boxes(boxes: Floats) -> FloatArray:
    """``[4, T]`` centre x, y, width, height to float32 ``[T, 4]`` xyxy, C-contiguous."""
    return to_corners(boxes).T.astype(np.float32, order="C")
