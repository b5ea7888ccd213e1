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
from tests.helpers.family_onnx import DENSE, LAYOUTS, encode, head_options
from tests.helpers.tiny_onnx import PlantedBox

SIZE = (416, 320)
each_layout = pytest.mark.parametrize("layout", list(LAYOUTS))
each_dense_layout = pytest.mark.parametrize("layout", DENSE)


def spec_of(layout: str, outputs: dict, classes: int = 80) -> ModelSpec:
    return ModelSpec(
        name="planted",
        sha256="",
        family=LAYOUTS[layout],
        image_input=TensorSpec("images", "float32", (None, 3, SIZE[1], SIZE[0])),
        input_width=SIZE[0],
        input_height=SIZE[1],
        max_batch=None,
        outputs=tuple(TensorSpec(name, str(array.dtype), (None, *array.shape[1:])) for name, array in outputs.items()),
        class_names=tuple(map(str, range(classes))),
        pixels=PixelSpec(),
        head_options=head_options(layout),
    )


def typed_outputs(boxes, layout, dtype="float32", classes=80):
    outputs = encode(boxes, SIZE, classes, layout)
    return {name: array.astype(dtype) if array.dtype == np.float32 else array for name, array in outputs.items()}


def read(layout, boxes, *, dtype="float32", threshold=0.25, classes=80, **options) -> Candidates:
    """Read the second picture of two, the first of which is empty."""
    outputs = typed_outputs(boxes, layout, dtype, classes)
    if layout == "end_to_end_list":
        (rows,) = outputs.values()
        rows[:, 0] = 1
        batch = {"output": np.concatenate([rows * [0, 1, 1, 1, 1, 1, 1], rows]).astype(dtype)}
    else:
        batch = {name: np.concatenate([array * 0, array]) for name, array in outputs.items()}
    return open_head(spec_of(layout, outputs, classes)).read(batch, 1, threshold, **options)


boxes_inside = st.builds(
    lambda x, y, w, h, class_id, score: PlantedBox((x, y, x + w, y + h), class_id, score),
    *(st.floats(0, 250), st.floats(0, 200), st.floats(18, 120), st.floats(18, 100), st.integers(0, 79)),
    st.integers(30, 100).map(lambda value: value / 100),
)


def test_every_family_is_covered_here():
    assert set(LAYOUTS.values()) == set(HEADS)


@each_layout
@settings(max_examples=50, deadline=None)
@given(boxes=st.lists(boxes_inside, max_size=3, unique_by=lambda box: box.score))
def test_planted_boxes_are_read_back(layout, boxes):
    found = read(layout, boxes)
    order, planted = np.argsort(found.scores), sorted(boxes, key=lambda box: box.score)
    assert len(found.scores) == len(boxes)
    np.testing.assert_allclose(found.xyxy[order], np.array([b.xyxy for b in planted]).reshape(-1, 4), atol=0.01)
    np.testing.assert_allclose(found.scores[order], [b.score for b in planted], atol=1e-6)
    assert found.class_ids[order].tolist() == [b.class_id for b in planted]


@each_layout
def test_float16_outputs_read_the_same_to_half_a_pixel(layout):
    box = PlantedBox((100, 50, 300.5, 200.25), 7, 0.7)
    found = read(layout, [box], dtype="float16")
    # float16 counts in quarters of a pixel between 256 and 512, and its sizes were logarithms in one family.
    np.testing.assert_allclose(found.xyxy, [box.xyxy], atol=0.5)
    assert found.class_ids.tolist() == [7]
    assert found.scores.dtype == found.xyxy.dtype == np.float32
    assert found.class_ids.dtype == np.int32


@each_layout
@pytest.mark.parametrize("classes", [1, 2, 80, 365])
def test_any_number_of_classes(layout, classes):
    found = read(layout, [PlantedBox((10, 10, 50, 60), classes - 1)], classes=classes)
    assert found.class_ids.tolist() == [classes - 1]


@each_layout
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_score_at_the_threshold_stays_and_below_it_goes(layout, dtype):
    boxes = [PlantedBox((10, 10, 50, 60), 1, 0.5), PlantedBox((100, 100, 150, 160), 2, 0.4995)]
    assert read(layout, boxes, dtype=dtype, threshold=0.5).class_ids.tolist() == [1]


@each_layout
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf])
@pytest.mark.parametrize("everywhere", [True, False])
def test_not_a_number_is_an_error_not_an_empty_result(layout, dtype, bad, everywhere):
    outputs = typed_outputs([PlantedBox((10, 10, 50, 60), 3)], layout, dtype)
    for array in outputs.values():
        if array.dtype == dtype:
            array[...] = np.where((array != 0) | everywhere, bad, array)
    with pytest.raises(RunError, match="not-a-number"):
        open_head(spec_of(layout, outputs)).read(outputs, 0, 0.25)


@each_dense_layout
def test_every_class_reports_a_box_once_for_each(layout):
    outputs = typed_outputs([PlantedBox((10, 10, 50, 60), 3, 0.9)], layout)
    (output,) = outputs.values()
    rows = output[0].T if layout == "yolov8" else output[0]
    classes = rows[:, :80] if layout == "nanodet" else rows[:, -80:]
    classes[classes[:, 3] > 0, 5] = 0.5
    head = open_head(spec_of(layout, outputs))
    assert head.read(outputs, 0, 0.25).class_ids.tolist() == [3]
    assert head.read(outputs, 0, 0.25, every_class=True).class_ids.tolist() == [3, 5]


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
