"""The product's own way from picture to boxes reaches the accuracy that the models are known for."""

from __future__ import annotations

import pytest

from engines.inspect_model import read_model_spec
from engines.runtime import RuntimeOptions, open_runtime
from pipeline.accuracy.average_precision import measure
from pipeline.accuracy.dataset import read_dataset
from pipeline.accuracy.detect import detect
from pipeline.postprocess.head import open_head
from pipeline.postprocess.postprocess import Postprocess
from pipeline.preprocess.host import HostPreprocess
from tests.helpers.test_data import test_data


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "ap", "person_ap"),
    [("yolox_nano_416", 0.341, 0.373), ("yolov8n_640_dequant_AGPL", 0.420, 0.506)],
)
def test_coco_ap_is_the_reference(name, ap, person_ap):
    """References and how they were measured: SOURCES.md of the test data (score 0.01, IoU 0.65, 100 boxes)."""
    pytest.importorskip("pycocotools")
    dataset = read_dataset(test_data() / "images" / "coco_val2017_128")
    model = test_data() / "models" / f"{name}.onnx"
    spec = read_model_spec(model)
    postprocess = Postprocess(
        spec,
        open_head(spec),
        score_threshold=0.01,
        iou_threshold=0.65,
        max_detections=100,
        every_class=True,
        max_candidates=5000,
    )
    with open_runtime("cpu", model, spec, RuntimeOptions(prefer="latency")) as runtime:
        slot = runtime.slots[0]
        paths = [picture.path for picture in dataset.pictures]
        seen = list(detect(paths, slot, HostPreprocess(spec, slot.input), postprocess))
    accuracy = measure(dataset.pictures, [frame.size for frame, _ in seen], [found for _, found in seen])
    assert accuracy.ap == pytest.approx(ap, abs=0.005)
    assert accuracy.classes[0][0] == pytest.approx(person_ap, abs=0.005)
