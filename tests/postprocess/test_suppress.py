"""Suppression against its definition, written as a loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from pipeline.postprocess.suppress import suppress


def naive(xyxy, scores, class_ids, iou_threshold):
    """Greedy suppression as it is usually written."""
    order = sorted(range(len(scores)), key=lambda i: (-float(scores[i]), i))
    kept: list[int] = []
    for i in order:
        if all(class_ids[i] != class_ids[k] or iou(xyxy[k], xyxy[i]) <= iou_threshold for k in kept):
            kept.append(i)
    return kept


def iou(a, b):
    width = max(np.float32(0), min(a[2], b[2]) - max(a[0], b[0]))
    height = max(np.float32(0), min(a[3], b[3]) - max(a[1], b[1]))
    shared = width * height
    union = area(a) + area(b) - shared
    return shared / union if union > 0 else np.float32(0)


def area(box):
    return max(np.float32(0), box[2] - box[0]) * max(np.float32(0), box[3] - box[1])


@st.composite
def pictures(draw):
    """Boxes that crowd: few positions, few sizes, few scores, so that overlaps, chains and ties are common."""
    count = draw(st.integers(0, 40))
    coordinates = st.integers(-20, 60).map(lambda value: value / 2)
    xyxy = draw(stn.arrays(np.float32, (count, 4), elements=coordinates))
    corners = draw(st.booleans())
    if corners:  # else some boxes are inside out, as a bad model gives them
        xyxy = np.concatenate([np.minimum(xyxy[:, :2], xyxy[:, 2:]), np.maximum(xyxy[:, :2], xyxy[:, 2:])], axis=1)
    scores = draw(stn.arrays(np.float32, count, elements=st.integers(0, 10).map(lambda value: value / 10)))
    class_ids = draw(stn.arrays(np.int32, count, elements=st.integers(0, 2)))
    return xyxy, scores, class_ids


@settings(max_examples=300)
@given(picture=pictures(), iou_threshold=st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]))
def test_suppression_is_the_greedy_definition(picture, iou_threshold):
    assert suppress(*picture, iou_threshold).tolist() == naive(*picture, iou_threshold)


def test_chain_of_overlaps_keeps_every_other_box():
    # Each box overlaps its neighbours alone: the first removes the second, so the third stays, and so on.
    left = np.arange(100, dtype=np.float32) * 5
    xyxy = np.stack([left, left * 0, left + 12, left * 0 + 10], axis=1)
    scores = np.linspace(0.9, 0.1, 100, dtype=np.float32)
    assert suppress(xyxy, scores, np.zeros(100, np.int32), 0.3).tolist() == list(range(0, 100, 2))


def test_boxes_of_different_classes_never_remove_each_other():
    xyxy = np.tile(np.array([[10, 10, 20, 20]], np.float32), (5, 1))
    scores = np.full(5, 0.5, np.float32)
    assert suppress(xyxy, scores, np.arange(5, dtype=np.int32), 0.5).tolist() == [0, 1, 2, 3, 4]
    assert suppress(xyxy, scores, np.full(5, 364, np.int32), 0.5).tolist() == [0]


@pytest.mark.parametrize("count", [0, 1])
def test_none_and_one_box_stay(count):
    boxes = np.zeros((count, 4), np.float32)
    assert suppress(boxes, np.ones(count, np.float32), np.zeros(count, np.int32), 0.5).tolist() == list(range(count))


def test_class_ids_do_not_move_edges_of_large_pictures():
    # Side by side along x, class 364 of an 8K picture lies near 3,000,000, where float32 counts in quarters.
    xyxy = np.array([[0, 0, 8192, 8], [0.1, 0, 8.1, 8], [8.0, 0, 16.0, 8]], np.float32)
    kept = suppress(xyxy, np.array([0.9, 0.8, 0.7], np.float32), np.full(3, 364, np.int32), 0.004)
    assert kept.tolist() == naive(xyxy, np.array([0.9, 0.8, 0.7]), [364] * 3, 0.004)
