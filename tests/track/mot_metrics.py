"""HOTA, CLEAR MOT and Identity, small enough to read; checked against known answers in ``test_quality.py``.

Papers: Luiten et al., "HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking", IJCV 2020;
Bernardin and Stiefelhagen, "Evaluating Multiple Object Tracking Performance", 2008 (CLEAR MOT);
Ristani et al., "Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking", 2016 (Identity).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_ALPHAS = np.arange(0.05, 0.99, 0.05)
_EPSILON = float(np.finfo(np.float64).eps)
_MATCH_IOU = 0.5


@dataclass(frozen=True)
class Boxes:
    """One frame: ``ids`` int64 ``[N]`` and ``xyxy`` float64 ``[N, 4]`` in pixels."""

    ids: Ints
    xyxy: Floats


@dataclass(frozen=True)
class Scores:
    """Percentages, except the two counts."""

    hota: float
    deta: float
    assa: float
    mota: float
    idf1: float
    switches: int
    predicted_boxes: int


def evaluate(truth: list[Boxes], predicted: list[Boxes]) -> Scores:
    """Score ``predicted`` against ``truth``: one entry a frame in both, same order."""
    truth_ids = _renumber([frame.ids for frame in truth])
    track_ids = _renumber([frame.ids for frame in predicted])
    similar = [box_iou(a.xyxy, b.xyxy) for a, b in zip(truth, predicted, strict=True)]
    truth_count = np.bincount(np.concatenate(truth_ids)).astype(np.float64)
    track_count = np.bincount(np.concatenate(track_ids)).astype(np.float64)
    if track_count.size == 0:
        return Scores(0.0, 0.0, 0.0, 0.0, 0.0, 0, 0)
    hota, deta, assa = _hota(truth_ids, track_ids, similar, truth_count, track_count)
    mota, switches = _clear(truth_ids, track_ids, similar, truth_count.size, int(truth_count.sum()))
    idf1 = _idf1(truth_ids, track_ids, similar, truth_count, track_count)
    percent = [100.0 * value for value in (hota, deta, assa, mota, idf1)]
    return Scores(*percent, switches=switches, predicted_boxes=int(track_count.sum()))


def box_iou(a: Floats, b: Floats) -> Floats:
    """Intersection over union of every pair: ``[A, 4]`` and ``[B, 4]`` xyxy to ``[A, B]``, 0 to 1."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    overlap = np.prod(np.clip(high - low, 0.0, None), axis=2)
    area_a = np.prod(a[:, 2:] - a[:, :2], axis=1)
    area_b = np.prod(b[:, 2:] - b[:, :2], axis=1)
    union = area_a[:, None] + area_b[None, :] - overlap
    return np.where(union > 0.0, overlap / np.maximum(union, _EPSILON), 0.0)


def best_matching(weight: Floats) -> tuple[Ints, Ints]:
    """Rows and columns of the full matching of greatest total weight (the Hungarian method, dense, O(n^3))."""
    if weight.shape[0] > weight.shape[1]:
        columns, rows = best_matching(weight.T)
        return rows, columns
    n, m = weight.shape
    row_price, column_price = np.zeros(n + 1), np.zeros(m + 1)
    row_of = np.zeros(m + 1, dtype=np.int64)  # column 0 and row 0 stand for "none"
    for row in range(1, n + 1):
        row_of[0], column = row, 0
        slack, came_from = np.full(m + 1, np.inf), np.zeros(m + 1, dtype=np.int64)
        seen = np.zeros(m + 1, dtype=bool)
        while True:
            seen[column] = True
            current = row_of[column]
            reduced = -weight[current - 1] - row_price[current] - column_price[1:]
            better = ~seen[1:] & (reduced < slack[1:])
            slack[1:][better], came_from[1:][better] = reduced[better], column
            following = 1 + int(np.argmin(np.where(seen[1:], np.inf, slack[1:])))
            delta = slack[following]
            row_price[row_of[seen]] += delta
            column_price[seen] -= delta
            slack[~seen] -= delta
            column = following
            if row_of[column] == 0:
                break
        while column:
            row_of[column] = row_of[came_from[column]]
            column = int(came_from[column])
    columns = np.flatnonzero(row_of[1:])
    return row_of[1:][columns] - 1, columns


def _renumber(frames: list[Ints]) -> list[Ints]:
    known = np.unique(np.concatenate(frames))
    return [np.searchsorted(known, ids) for ids in frames]


def _hota(
    truth_ids: list[Ints], track_ids: list[Ints], similar: list[Floats], truth_count: Floats, track_count: Floats
) -> tuple[float, float, float]:
    shape = (truth_count.size, track_count.size)
    potential = np.zeros(shape)
    for g, t, s in zip(truth_ids, track_ids, similar, strict=True):
        together = s.sum(axis=0)[None, :] + s.sum(axis=1)[:, None] - s
        potential[g[:, None], t[None, :]] += np.where(together > _EPSILON, s / np.maximum(together, _EPSILON), 0.0)
    either = truth_count[:, None] + track_count[None, :]
    alignment = potential / (either - potential)
    matches = np.zeros((_ALPHAS.size, *shape))
    for g, t, s in zip(truth_ids, track_ids, similar, strict=True):
        if g.size and t.size:
            rows, columns = best_matching(alignment[g[:, None], t[None, :]] * s)
            for index, alpha in enumerate(_ALPHAS):
                keep = s[rows, columns] >= alpha - _EPSILON
                matches[index, g[rows[keep]], t[columns[keep]]] += 1
    true_positives = matches.sum(axis=(1, 2))
    deta = true_positives / (truth_count.sum() + track_count.sum() - true_positives)
    shared = matches / np.maximum(1.0, either - matches)
    assa = (matches * shared).sum(axis=(1, 2)) / np.maximum(1.0, true_positives)
    return float(np.sqrt(deta * assa).mean()), float(deta.mean()), float(assa.mean())


def _clear(
    truth_ids: list[Ints], track_ids: list[Ints], similar: list[Floats], objects: int, boxes: int
) -> tuple[float, int]:
    last_track, previous = np.full(objects, -1), np.full(objects, -1)
    misses = extras = switches = 0
    for g, t, s in zip(truth_ids, track_ids, similar, strict=True):
        rows = columns = np.zeros(0, dtype=np.int64)
        if g.size and t.size:
            score = 1000.0 * (previous[g][:, None] == t[None, :]) + s
            score[s < _MATCH_IOU - _EPSILON] = 0.0
            rows, columns = best_matching(score)
            keep = score[rows, columns] > _EPSILON
            rows, columns = rows[keep], columns[keep]
        before = last_track[g[rows]]
        switches += int(np.sum((before >= 0) & (before != t[columns])))
        previous[:] = -1
        previous[g[rows]] = last_track[g[rows]] = t[columns]
        misses += g.size - rows.size
        extras += t.size - rows.size
    return 1.0 - (misses + extras + switches) / max(1, boxes), switches


def _idf1(
    truth_ids: list[Ints], track_ids: list[Ints], similar: list[Floats], truth_count: Floats, track_count: Floats
) -> float:
    together = np.zeros((truth_count.size, track_count.size))
    for g, t, s in zip(truth_ids, track_ids, similar, strict=True):
        together[g[:, None], t[None, :]] += s >= _MATCH_IOU
    rows, columns = best_matching(together)
    return float(2.0 * together[rows, columns].sum() / (truth_count.sum() + track_count.sum()))
