"""The head kernels, compiled for the host, find what the host's heads and suppression find."""

import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.buffers import DeviceTensor
from engines.errors import RunError
from engines.inspect_model import read_model_spec
from engines.runtime import RuntimeOptions, open_runtime
from pipeline.accuracy.picture import read_picture
from pipeline.detections import ScoreLimits
from pipeline.frame import Size
from pipeline.letterbox import Letterbox
from pipeline.postprocess.device import HEADER, ROW, compared_scores, read_results
from pipeline.postprocess.head import HEADS, open_head
from pipeline.postprocess.head_record import FAMILIES, HEAD, TALLY, cells_of, describe_head
from pipeline.postprocess.postprocess import Postprocess
from pipeline.preprocess.device import PICTURE
from pipeline.preprocess.host import HostPreprocess
from tests.helpers.family_onnx import LAYOUTS
from tests.helpers.host_kernels import host_kernels
from tests.helpers.test_data import test_data
from tests.helpers.tiny_onnx import PlantedBox
from tests.postprocess.test_heads import SIZE, boxes_inside, spec_of, typed_outputs

each_layout = pytest.mark.parametrize("layout", list(LAYOUTS))
GEOMETRY = Letterbox.fit(Size(1279, 719), Size(*SIZE))
PICTURES = 9


def tensor(array) -> DeviceTensor:
    return DeviceTensor(array.ctypes.data, array.shape, array.dtype, 0)


def read_by_kernels(spec, outputs, geometries, *, score, iou=0.5, most=50, least=None, candidates=1000, wanted=None):
    count = len(geometries)
    cells = cells_of(spec)
    mask = None if wanted is None else np.isin(np.arange(max(wanted) + 1), wanted).astype(np.uint8)
    head = describe_head(
        spec,
        {name: tensor(array) for name, array in outputs.items()},
        0 if cells is None else cells.ctypes.data,
        (0, 0) if mask is None else (mask.ctypes.data, len(mask)),
    )
    head["iou_threshold"], head["max_candidates"], head["max_detections"] = iou, candidates, most
    rows = int(head["candidates"][0])
    pictures = np.zeros(count, PICTURE)
    pictures["place"] = [(one.left, one.top, *one.inner) for one in geometries]
    pictures["way_back"] = [(one.scale_x, one.scale_y, *one.source) for one in geometries]
    pictures["scores"] = compared_scores(ScoreLimits(score, score if least is None else least), bool(head["logits"][0]))
    tallies, keys = np.zeros(count, TALLY), np.zeros((count, rows), np.uint64)
    class_ids = np.full((count, rows), -7, np.int32)
    results = np.full((count, HEADER + ROW * most), -1, np.int32)
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (head, tallies, keys, class_ids, pictures, results)]
    host_kernels("heads").run_heads(pointers[0], count, *pointers[1:], 8)
    return read_results(results)


def read_by_host(spec, outputs, row, geometry, *, score, iou=0.5, most=50, least=None, candidates=1000, wanted=None):
    limits = {"score_threshold": score, "iou_threshold": iou, "max_detections": most, "least_score": least}
    step = Postprocess(spec, open_head(spec), classes=wanted, max_candidates=candidates, **limits)
    return step(outputs, row, geometry)


def agree(spec, outputs, count, geometries=None, **limits):
    geometries = geometries or [GEOMETRY] * count
    found = read_by_kernels(spec, outputs, geometries, **limits)
    for row, geometry in enumerate(geometries):
        expected = read_by_host(spec, outputs, row, geometry, **limits)
        assert not isinstance(found[row], RunError)
        assert found[row].class_ids.tolist() == expected.class_ids.tolist()
        np.testing.assert_allclose(found[row].scores, expected.scores, atol=1e-6)
        np.testing.assert_allclose(found[row].xyxy, expected.xyxy, atol=2e-3)
        assert found[row].truncated == expected.truncated
    return found


def batch_of(layout, *pictures, dtype="float32", classes=80):
    each = [typed_outputs(boxes, layout, dtype, classes) for boxes in pictures]
    if layout == "end_to_end_list":
        for row, outputs in enumerate(each):
            outputs["output"][:, 0] = row
    return {name: np.ascontiguousarray(np.concatenate([outputs[name] for outputs in each])) for name in each[0]}


@pytest.mark.parametrize(
    "name",
    [
        "yolox_nano_416",
        "yolox_nano_416_fp16_dynbatch",
        "yolox_nano_416_nms_dynbatch",
        "deimv2_atto_320_coco",
        "yolov8n_640_dequant_AGPL",
    ],
)
def test_real_models_find_on_real_pictures_what_they_find_on_the_host(name):
    """In batches of pictures of different sizes, where the model takes batches."""
    model = test_data() / "models" / f"{name}.onnx"
    paths = sorted((test_data() / "images" / "coco_val2017_128" / "images").glob("*.jpg"))[:PICTURES]
    spec, boxes = read_model_spec(model), 0
    with open_runtime("cpu", model, spec, RuntimeOptions(threads=2, max_batch=3)) as runtime:
        slot = runtime.slots[0]
        preprocess = HostPreprocess(spec, slot.input)
        for first in range(0, PICTURES, runtime.max_batch):
            batch = paths[first : first + runtime.max_batch]
            geometries = [preprocess(read_picture(path), row) for row, path in enumerate(batch)]
            outputs = {key: np.ascontiguousarray(array) for key, array in slot.run(len(batch)).items()}
            boxes += sum(map(len, agree(spec, outputs, len(batch), geometries, score=0.25)))
            agree(spec, outputs, len(batch), geometries, score=0.5, least=0.02, iou=0.65, most=100)
    assert boxes > 3 * PICTURES


def test_every_family_that_the_host_reads_is_described():
    assert set(FAMILIES) == set(HEADS)


def test_records_lie_as_the_kernels_read_them():
    assert HEAD.itemsize == 6 * 40 + 2 * 8 + 9 * 4 + 3 * 4
    assert TALLY.itemsize == 16


@each_layout
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@settings(max_examples=8, deadline=None)
@given(
    first=st.lists(boxes_inside, max_size=4, unique_by=lambda box: box.score),
    second=st.lists(boxes_inside, max_size=4, unique_by=lambda box: box.score),
)
def test_planted_boxes_are_found_as_on_the_host(layout, dtype, first, second):
    outputs = batch_of(layout, first, second, dtype=dtype)
    agree(spec_of(layout, outputs), outputs, 2, score=0.4, least=0.1)


@each_layout
def test_unwanted_classes_are_left_out(layout):
    boxes = [PlantedBox((10, 10, 50, 60), 1, 0.9), PlantedBox((100, 100, 160, 170), 2, 0.8)]
    outputs = batch_of(layout, boxes, boxes)
    (found, _) = agree(spec_of(layout, outputs), outputs, 2, score=0.25, wanted=[2])
    assert found.class_ids.tolist() == [2]


@each_layout
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_a_number_is_an_error_of_that_picture(layout, dtype, bad):
    outputs = batch_of(layout, [PlantedBox((10, 10, 50, 60), 3)], [PlantedBox((10, 10, 50, 60), 3)], dtype=dtype)
    for array in outputs.values():
        if array.dtype == dtype:
            array[0] = np.where(array[0] != 0, bad, array[0])
    found = read_by_kernels(spec_of(layout, outputs), outputs, [GEOMETRY] * 2, score=0.25)
    assert isinstance(found[0], RunError)
    if layout != "end_to_end_list":  # one list for all pictures
        assert len(found[1]) == 1


def crowd(count, dtype="float32", classes=3, seed=0):
    """YOLOv8 outputs of many boxes on top of each other, scores in coarse steps so that many are equal."""
    rng = np.random.default_rng(seed)
    boxes = np.concatenate([rng.uniform(40, 280, (count, 2)), rng.uniform(20, 90, (count, 2))], axis=1)
    scores = rng.integers(0, 40, (count, classes)) / 40
    return {"output0": np.ascontiguousarray(np.concatenate([boxes, scores], axis=1).T[None]).astype(dtype)}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("count", [1, 2, 63, 700, 3000])
def test_crowds_are_suppressed_and_cut_as_on_the_host(count, dtype):
    outputs = crowd(count, dtype)
    spec = spec_of("yolov8", outputs, classes=3)
    agree(spec, outputs, 1, score=0.5, iou=0.45, most=300)
    agree(spec, outputs, 1, score=0.5, iou=0.45, most=5)
    agree(spec, outputs, 1, score=0.6, iou=0.7, least=0.05, most=100, candidates=50)


def test_boxes_in_the_padding_are_left_out():
    boxes = [PlantedBox((10, 2, 60, 30), 0, 0.9), PlantedBox((100, 100, 160, 170), 1, 0.8)]
    outputs = batch_of("yolov8", boxes)
    assert GEOMETRY.top > 30
    (found,) = agree(spec_of("yolov8", outputs), outputs, 1, score=0.25)
    assert found.class_ids.tolist() == [1]
