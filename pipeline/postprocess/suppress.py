"""Non-maximum suppression: exact, greedy, per class, without a loop over boxes.

Greedy suppression keeps a box unless a kept box of the same class and a higher score overlaps it by more than the
threshold. Note [Fixed point]: call ``j`` a rival of ``i`` when it comes later in the order of scores and overlaps
``i`` too much. Then ``keep[j] = no kept i has j as a rival`` has exactly one solution, because rivals only point
forwards; starting from "keep all" and repeating the rule settles the first box in one round, and every round settles
at least one more. What no round changes is therefore the greedy answer. Real pictures need two to five rounds.

Pairs are found by sweeping along x within each class (Baraff's sweep and prune), so boxes that cannot touch are never
compared: the cost follows the overlaps, not the square of the number of boxes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.detections import FloatArray, IntArray

Indices = NDArray[np.intp]


def suppress(xyxy: FloatArray, scores: FloatArray, class_ids: IntArray, iou_threshold: float) -> Indices:
    """Return the indices of the boxes that stay, best score first; equal scores keep their order.

    ``xyxy`` is ``[N, 4]``. A box goes when a kept box of its class has an IoU with it of more than ``iou_threshold``
    (0-1). Boxes without area overlap nothing.
    """
    order = np.argsort(-scores, kind="stable")
    if len(order) < 2:
        return order
    first, second = _touching_pairs(xyxy[order], class_ids[order])
    rivals = _iou(xyxy[order[first]], xyxy[order[second]]) > iou_threshold
    return order[_settle(first[rivals], second[rivals], len(order))]


def _touching_pairs(xyxy: FloatArray, class_ids: IntArray) -> tuple[Indices, Indices]:
    """Return pairs ``(i, j)``, ``i < j``, of one class whose spans along x overlap."""
    # Classes are laid side by side along x, in float64 so that no class moves another's edges.
    left, right = xyxy[:, 0].astype(np.float64), xyxy[:, 2].astype(np.float64)
    start = left.min()
    offset = class_ids * (np.maximum(right.max(), left.max()) - start + 1.0) - start
    left += offset
    right += offset
    sweep = np.argsort(left, kind="stable")
    reach = np.searchsorted(left[sweep], right[sweep], side="left")
    counts = np.maximum(reach - np.arange(1, len(sweep) + 1), 0)
    ends = np.cumsum(counts)
    a = np.repeat(np.arange(len(sweep)), counts)
    b = np.arange(ends[-1]) - np.repeat(ends - counts, counts) + a + 1
    i, j = sweep[a], sweep[b]
    return np.minimum(i, j), np.maximum(i, j)


def _iou(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return the intersection over union of each pair of rows, float32 ``[P]``."""
    size = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    np.maximum(size, 0, out=size)
    shared = size[:, 0] * size[:, 1]
    union = _area(first) + _area(second) - shared
    overlap: FloatArray = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return overlap


def _area(xyxy: FloatArray) -> FloatArray:
    area: FloatArray = np.maximum(xyxy[:, 2] - xyxy[:, 0], 0) * np.maximum(xyxy[:, 3] - xyxy[:, 1], 0)
    return area


def _settle(first: Indices, second: Indices, count: int) -> NDArray[np.bool_]:
    """Return which of ``count`` boxes stay, given every pair where ``first`` would remove ``second``."""
    keep = np.ones(count, np.bool_)
    while True:
        settled = np.ones(count, np.bool_)
        settled[second[keep[first]]] = False
        if np.array_equal(settled, keep):
            return keep
        keep = settled
