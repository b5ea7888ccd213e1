"""The step as a whole: outputs in, detections in source pixels out."""

from __future__ import annotations

import numpy as np
import pytest

from engines.inspect_model import read_model_spec
from pipeline.errors import ConfigError
from pipeline.frame import Size
from pipeline.letterbox import Letterbox
from pipeline.postprocess.head import open_head
from pipeline.postprocess.postprocess import MAX_CANDIDATES, Postprocess
from tests.helpers.tiny_onnx import PlantedBox, colour_detector, encode_boxes, planted_detector

SIZE = (320, 320)
SOURCE = Size(1280, 720)  # at 320x320: a quarter of the size, 70 rows of padding above and below


def step(tmp_path, **options) -> Postprocess:
    spec = read_model_spec(planted_detector(tmp_path / "m.onnx", SIZE, []))
    settings = {"score_threshold": 0.25, "iou_threshold": 0.5, "max_detections": 300, **options}
    return Postprocess(spec, open_head(spec), **settings)


def outputs(boxes, size=SIZE):
    return {"output0": encode_boxes(boxes, size, 80, "yolov8")}


def test_boxes_come_out_in_source_pixels_best_first_and_clipped(tmp_path):
    boxes = [PlantedBox((10, 80, 50, 120), 2, 0.5), PlantedBox((-20, 60, 400, 300), 0, 0.8)]
    found = step(tmp_path)(outputs(boxes), 0, Letterbox.fit(SOURCE, Size(*SIZE)))
    np.testing.assert_allclose(found.xyxy, [[0, 0, 1280, 720], [40, 40, 200, 200]], atol=0.01)
    assert found.scores.tolist() == pytest.approx([0.8, 0.5])
    assert found.class_ids.tolist() == [0, 2]
    assert not found.truncated


def test_boxes_in_the_padding_alone_are_left_out(tmp_path):
    found = step(tmp_path)(outputs([PlantedBox((10, 5, 50, 60), 1)]), 0, Letterbox.fit(SOURCE, Size(*SIZE)))
    assert len(found) == 0


def test_nothing_found_is_an_empty_result(tmp_path):
    found = step(tmp_path)(outputs([]), 0, Letterbox.fit(SOURCE, Size(*SIZE)))
    assert found.xyxy.shape == (0, 4)
    assert found.class_ids.dtype == np.int32


def test_more_than_max_detections_keeps_the_best_and_says_so(tmp_path):
    boxes = [PlantedBox((10 + 30 * i, 80, 30 + 30 * i, 100), 0, 0.3 + 0.05 * i) for i in range(9)]
    found = step(tmp_path, max_detections=4)(outputs(boxes), 0, Letterbox.fit(SOURCE, Size(*SIZE)))
    assert found.scores.tolist() == pytest.approx([0.7, 0.65, 0.6, 0.55])
    assert found.truncated
    whole = step(tmp_path, max_detections=9)(outputs(boxes), 0, Letterbox.fit(SOURCE, Size(*SIZE)))
    assert (len(whole), whole.truncated) == (9, False)


def test_flood_of_candidates_is_cut_to_the_best_and_says_so(tmp_path):
    random = np.random.default_rng(1)
    output = np.zeros((1, 84, 2100), np.float32)
    output[0, :2] = random.uniform(80, 240, (2, 2100))
    output[0, 2:4] = 4
    output[0, 4] = random.uniform(0.3, 0.9, 2100)
    found = step(tmp_path, max_detections=10_000)({"output0": output}, 0, Letterbox.fit(SOURCE, Size(*SIZE)))
    assert found.truncated
    assert len(found) <= MAX_CANDIDATES
    assert found.scores[0] == output[0, 4].max()


def test_classes_are_kept_by_name_or_id(tmp_path):
    spec = read_model_spec(colour_detector(tmp_path / "m.onnx", SIZE))
    boxes = [PlantedBox((10 + 40 * i, 80, 30 + 40 * i, 100), i, 0.5) for i in range(4)]
    planted = {"output0": encode_boxes(boxes, SIZE, 4, "yolov8")}
    settings = {"score_threshold": 0.25, "iou_threshold": 0.5, "max_detections": 300}
    only = Postprocess(spec, open_head(spec), **settings, classes=["white", 1])
    assert only(planted, 0, Letterbox.fit(SOURCE, Size(*SIZE))).class_ids.tolist() == [1, 3]
    with pytest.raises(ConfigError, match=r"classes: whit: model m has no such class. Did you mean white\?"):
        Postprocess(spec, open_head(spec), **settings, classes=["whit"])
    with pytest.raises(ConfigError, match="classes: 4: model m has class ids 0 to 3"):
        Postprocess(spec, open_head(spec), **settings, classes=[4])


def test_doubtful_boxes_kept_for_a_tracker_come_last_and_change_nothing_above_them(tmp_path):
    sure = [PlantedBox((10 + 30 * i, 80, 30 + 30 * i, 100), 0, 0.3 + 0.05 * i) for i in range(4)]
    doubtful = [PlantedBox((10 + 30 * i, 180, 30 + 30 * i, 200), 0, 0.12) for i in range(4)]
    over = [PlantedBox((11, 81, 30, 100), 0, 0.2)]  # suppressed by the first sure one
    geometry = Letterbox.fit(SOURCE, Size(*SIZE))
    plain = step(tmp_path)(outputs(sure + doubtful + over), 0, geometry)
    kept = step(tmp_path, least_score=0.1)(outputs(sure + doubtful + over), 0, geometry)
    assert len(kept) == 8
    np.testing.assert_array_equal(kept.xyxy[:4], plain.xyxy)
    assert kept.scores[4:].tolist() == pytest.approx([0.12] * 4)
    few = step(tmp_path, least_score=0.1, max_detections=4)(outputs(sure + doubtful), 0, geometry)
    assert (len(few), few.truncated) == (4, False)
    fewer = step(tmp_path, least_score=0.1, max_detections=3)(outputs(sure + doubtful), 0, geometry)
    assert (len(fewer), fewer.truncated) == (3, True)
