"""Every head in the table reads back what was planted in its family's outputs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.errors import RunError
from engines.model_spec import ModelSpec, PixelSpec, TensorSpec
from pipeline.postprocess.best_class import best_of_columns, best_of_rows, every_of_rows
from pipeline.postprocess.head import HEADS, Candidates, open_head
from tests.helpers.tiny_onnx import PlantedBox, encode_boxes

SIZE = (416, 320)
LAYOUTS = {"yolov8": ("yolov8", "yolov8_rows"), "yolox": ("yolox",)}


def spec_of(family: str, layout: str, dtype: str = "float32", classes: int = 80) -> ModelSpec:
    rows = "channels" if layout == "yolov8" else "candidates"
    return ModelSpec(
        name="planted",
        sha256="",
        family=family,
        image_input=TensorSpec("images", dtype, (1, 3, SIZE[1], SIZE[0])),
        input_width=SIZE[0],
        input_height=SIZE[1],
        max_batch=1,
        outputs=(TensorSpec("output0", dtype, (None, None, None)),),
        class_names=tuple(map(str, range(classes))),
        pixels=PixelSpec(),
        head_options={"rows": rows},
    )


def read(family, layout, boxes, *, dtype="float32", threshold=0.25, classes=80, **options) -> Candidates:
    output = encode_boxes(boxes, SIZE, classes, layout).astype(dtype)
    head = open_head(spec_of(family, layout, dtype, classes))
    return head.read({"output0": np.concatenate([output * 0, output])}, 1, threshold, **options)


def each_layout():
    return [pytest.param(family, layout, id=layout) for family in HEADS for layout in LAYOUTS[family]]


boxes_inside = st.builds(
    lambda x, y, w, h, class_id, score: PlantedBox((x, y, x + w, y + h), class_id, score),
    *(st.floats(0, 250), st.floats(0, 200), st.floats(4, 120), st.floats(4, 100), st.integers(0, 79)),
    st.integers(30, 100).map(lambda value: value / 100),
)


def test_every_family_is_covered_here():
    assert set(LAYOUTS) == set(HEADS)


@pytest.mark.parametrize(("family", "layout"), each_layout())
@settings(max_examples=50, deadline=None)
@given(boxes=st.lists(boxes_inside, max_size=3, unique_by=lambda box: box.score))
def test_planted_boxes_are_read_back(family, layout, boxes):
    found = read(family, layout, boxes)
    order, planted = np.argsort(found.scores), sorted(boxes, key=lambda box: box.score)
    assert len(found.scores) == len(boxes)
    np.testing.assert_allclose(found.xyxy[order], np.array([b.xyxy for b in planted]).reshape(-1, 4), atol=0.01)
    np.testing.assert_allclose(found.scores[order], [b.score for b in planted], atol=1e-6)
    assert found.class_ids[order].tolist() == [b.class_id for b in planted]


@pytest.mark.parametrize(("family", "layout"), each_layout())
def test_float16_outputs_read_the_same_to_half_a_pixel(family, layout):
    box = PlantedBox((100, 50, 300.5, 200.25), 7, 0.7)
    found = read(family, layout, [box], dtype="float16")
    # float16 counts in quarters of a pixel between 256 and 512, and its sizes were logarithms in one family.
    np.testing.assert_allclose(found.xyxy, [box.xyxy], atol=0.5)
    assert found.class_ids.tolist() == [7]
    assert found.scores.dtype == found.xyxy.dtype == np.float32
    assert found.class_ids.dtype == np.int32


@pytest.mark.parametrize(("family", "layout"), each_layout())
@pytest.mark.parametrize("classes", [1, 2, 80, 365])
def test_any_number_of_classes(family, layout, classes):
    found = read(family, layout, [PlantedBox((10, 10, 50, 60), classes - 1)], classes=classes)
    assert found.class_ids.tolist() == [classes - 1]


@pytest.mark.parametrize(("family", "layout"), each_layout())
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_score_at_the_threshold_stays_and_below_it_goes(family, layout, dtype):
    boxes = [PlantedBox((10, 10, 50, 60), 1, 0.5), PlantedBox((100, 100, 150, 160), 2, 0.4995)]
    assert read(family, layout, boxes, dtype=dtype, threshold=0.5).class_ids.tolist() == [1]


@pytest.mark.parametrize(("family", "layout"), each_layout())
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf])
@pytest.mark.parametrize("everywhere", [True, False])
def test_not_a_number_is_an_error_not_an_empty_result(family, layout, dtype, bad, everywhere):
    output = encode_boxes([PlantedBox((10, 10, 50, 60), 3)], SIZE, 80, layout).astype(dtype)
    output[output != 0] = bad
    if everywhere:
        output[:] = bad
    with pytest.raises(RunError, match="not-a-number"):
        open_head(spec_of(family, layout, dtype)).read({"output0": output}, 0, 0.25)


@pytest.mark.parametrize(("family", "layout"), each_layout())
def test_every_class_reports_a_box_once_for_each(family, layout):
    output = encode_boxes([PlantedBox((10, 10, 50, 60), 3, 0.9)], SIZE, 80, layout)
    rows = output[0].T if layout == "yolov8" else output[0]
    rows[rows[:, -80 + 3] > 0, -80 + 5] = 0.5
    head = open_head(spec_of(family, layout))
    assert head.read({"output0": output}, 0, 0.25).class_ids.tolist() == [3]
    assert head.read({"output0": output}, 0, 0.25, every_class=True).class_ids.tolist() == [3, 5]


@settings(max_examples=100, deadline=None)
@given(data=st.data(), dtype=st.sampled_from(["float32", "float16"]), threshold=st.floats(0, 1))
def test_best_class_is_the_definition(data, dtype, threshold):
    seed = data.draw(st.integers(0, 2**31))
    scores = np.random.default_rng(seed).random((23, 7)).astype(dtype)
    exact = scores.astype(np.float32)
    wanted = np.flatnonzero(exact.max(axis=1) >= np.float32(threshold))
    for index, class_ids, best in (best_of_rows(scores, threshold), best_of_columns(scores.T.copy(), threshold)):
        assert index.tolist() == wanted.tolist()
        assert class_ids.tolist() == exact.argmax(axis=1)[wanted].tolist()
        assert best.tolist() == exact.max(axis=1)[wanted].tolist()
    rows, classes, every = every_of_rows(scores, threshold)
    assert sorted(zip(rows, classes, strict=True)) == sorted(
        zip(*np.nonzero(exact >= np.float32(threshold)), strict=True)
    )
    assert every.tolist() == exact[rows, classes].tolist()
