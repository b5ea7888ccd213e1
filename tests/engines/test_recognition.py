"""Detectors of every family, generated: each is recognised, or the error asks for exactly the fact that is missing."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.errors import ModelError
from engines.inspect_model import read_model_spec
from engines.runtime import RuntimeOptions, open_runtime
from pipeline.postprocess.head import open_head
from tests.helpers.family_onnx import LAYOUTS, planted_family
from tests.helpers.tail_onnx import yolov5_tail, yolov8_tail, yolox_tail
from tests.helpers.tiny_onnx import PlantedBox

BOXES = (PlantedBox((20, 30, 80, 90), 0, 0.9), PlantedBox((40, 100, 140, 150), 0, 0.6))

sizes = st.tuples(*[st.sampled_from([160, 192, 224, 320, 416, 640])] * 2)
class_counts = st.sampled_from([1, 2, 3, 20, 80, 81, 91, 365])


def names_of(classes: int) -> dict[str, str]:
    return {"names": str({index: f"class {index}" for index in range(classes)})}


def is_ambiguous(layout: str, classes: int) -> bool:
    """Whether the shape alone leaves more than one reading (see ``engines.dense_families``)."""
    if layout in ("yolov8_rows", "yolox", "nanodet"):
        columns = classes + {"yolov8_rows": 4, "yolox": 5, "nanodet": 32}[layout]
        return columns not in (5, 84, 85, 112)  # five columns are a box and one class; the others are COCO's
    return False


@settings(max_examples=120, deadline=None)
@given(
    layout=st.sampled_from(sorted(LAYOUTS)),
    size=sizes,
    classes=class_counts,
    dynamic=st.booleans(),
    dtype=st.sampled_from(["float32", "float16"]),
    named=st.booleans(),
)
def test_every_family_is_recognised_or_the_missing_fact_is_asked_for(layout, size, classes, dynamic, dtype, named):
    with tempfile.TemporaryDirectory() as folder:
        model = planted_family(
            Path(folder) / "m.onnx",
            layout,
            BOXES[:1],
            size=size,
            classes=classes,
            dynamic_batch=dynamic,
            dtype=dtype,
            metadata=names_of(classes) if named else None,
        )
        if not named and is_ambiguous(layout, classes):
            with pytest.raises(ModelError, match="Say classes"):
                read_model_spec(model)
            spec = read_model_spec(model, {"classes": classes})
        elif not named and layout == "yolov8_rows" and classes == 81:  # 85 columns that are not objectness
            assert read_model_spec(model).family == "yolox"
            spec = read_model_spec(model, {"family": "yolov8"})
        else:
            spec = read_model_spec(model)
    assert spec.family == LAYOUTS[layout]
    assert (spec.input_width, spec.input_height) == size
    assert spec.max_batch == (None if dynamic else 1)
    assert spec.image_input.dtype == dtype
    if named:
        assert spec.class_names == tuple(f"class {index}" for index in range(classes))
    elif not spec.has_nms:
        assert spec.class_names == tuple(map(str, range(classes)))


@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_planted_boxes_come_through_file_runtime_and_head(tmp_path, layout, dtype, dynamic):
    model = planted_family(
        tmp_path / "m.onnx", layout, BOXES, classes=7, dynamic_batch=dynamic, dtype=dtype, metadata=names_of(7)
    )
    spec = read_model_spec(model)
    batch = 2 if dynamic and layout != "end_to_end_list" else 1
    with open_runtime("cpu", model, spec, RuntimeOptions(prefer="latency", max_batch=batch)) as runtime:
        outputs = runtime.slots[0].run(batch)
        found = open_head(spec).read(outputs, batch - 1, 0.5)
    order = np.argsort(-found.scores)
    np.testing.assert_allclose(found.xyxy[order], [box.xyxy for box in BOXES], atol=0.5)
    np.testing.assert_allclose(found.scores[order], [0.9, 0.6], atol=1e-3)
    assert found.class_ids.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("metadata", "family"),
    [
        ({"end2end": "True", "args": "{'nms': False}"}, "end_to_end"),
        ({"args": "{'nms': True}", **names_of(2)}, "end_to_end"),
        ({"end2end": "False", "args": "{'nms': False}", **names_of(2)}, "yolov8"),
        (names_of(1), "yolox"),
    ],
)
def test_six_columns_on_a_whole_grid_are_told_apart(tmp_path, metadata, family):
    # 525 cells at 160x160, and 525 finished boxes of six numbers look the same.
    model = planted_family(tmp_path / "m.onnx", "yolov8_rows", BOXES, size=(160, 160), classes=2, metadata=metadata)
    assert read_model_spec(model).family == family


def test_columns_may_come_in_another_order(tmp_path):
    model = planted_family(tmp_path / "m.onnx", "end_to_end", BOXES[:1])
    spec = read_model_spec(model, {"columns": ["class", "score", "x1", "y1", "x2", "y2"]})
    rows = np.array([[[3, 0.8, 10, 20, 30, 40]]], np.float32)
    found = open_head(spec).read({"output0": rows}, 0, 0.5)
    assert (found.class_ids.tolist(), found.xyxy.tolist()) == ([3], [[10, 20, 30, 40]])
    with pytest.raises(ModelError, match="columns: got"):
        read_model_spec(model, {"columns": ["class", "score"]})


def test_list_of_all_pictures_boxes_needs_to_say_of_which(tmp_path):
    rows = np.array([[0, 1, 2, 3, 4, 5, 0.9], [1, 10, 20, 30, 40, 6, 0.8]], np.float32)
    spec = read_model_spec(planted_family(tmp_path / "m.onnx", "end_to_end_list", BOXES, dynamic_batch=True))
    assert open_head(spec).read({"output": rows}, 1, 0.5).class_ids.tolist() == [6]


@pytest.mark.parametrize("classes", [1, 2, 7, 79, 80, 81, 365])
def test_wiring_tells_what_shapes_and_metadata_do_not(tmp_path, classes):
    raw = read_model_spec(yolox_tail(tmp_path / "raw.onnx", classes, decoded=False))
    assert (raw.family, len(raw.class_names)) == ("yolox", classes)
    decoded = read_model_spec(yolox_tail(tmp_path / "decoded.onnx", classes, decoded=True))
    assert (decoded.family, len(decoded.class_names)) == ("yolov5", classes)
    assert (decoded.pixels.order, decoded.pixels.scale, decoded.pixels.placement) == ("bgr", 1.0, "top_left")
    anchored = read_model_spec(yolov5_tail(tmp_path / "anchored.onnx", classes))
    assert (anchored.family, len(anchored.class_names), anchored.pixels.order) == ("yolov5", classes, "rgb")
    for rows in (False, True):
        spec = read_model_spec(yolov8_tail(tmp_path / f"{rows}.onnx", classes, rows=rows))
        assert (spec.family, len(spec.class_names)) == ("yolov8", classes)
        assert spec.head_options["rows"] == ("candidates" if rows else "channels")
        assert spec.pixels.order == "rgb"


def test_stated_family_stands_on_a_grid_that_is_not_known_here(tmp_path):
    model = planted_family(tmp_path / "m.onnx", "end_to_end", BOXES, classes=7, size=(416, 416))
    proto = onnx.load(str(model))
    for dim, length in zip(proto.graph.output[0].type.tensor_type.shape.dim, (1, 12, 777), strict=True):
        dim.dim_value = length
    onnx.save(proto, str(model))
    with pytest.raises(ModelError, match="family cannot be worked out"):
        read_model_spec(model)
    spec = read_model_spec(model, {"family": "yolov8", "classes": 8})
    assert (spec.family, spec.head_options["rows"]) == ("yolov8", "channels")
