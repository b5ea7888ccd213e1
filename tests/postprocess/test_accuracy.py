"""The product's own way from picture to boxes reaches the accuracy that the models are known for."""

from __future__ import annotations

import pytest

from engines.inspect_model import read_model_spec
from pipeline.accuracy.dataset import read_dataset
from pipeline.accuracy.evaluate import evaluate
from tests.helpers.test_data import test_data


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "ap", "person_ap"),
    [
        ("yolox_nano_416", 0.341, 0.373),
        ("yolox_nano_416_fp16_dynbatch", 0.340, None),
        ("yolox_nano_416_nms_dynbatch", 0.329, None),
        ("deimv2_atto_320_coco", 0.300, 0.336),
        ("yolov8n_640_dequant_AGPL", 0.420, 0.506),
    ],
)
def test_coco_ap_is_the_reference(name, ap, person_ap):
    """References and how they were measured: SOURCES.md of the test data (score 0.01, IoU 0.65, 100 boxes)."""
    pytest.importorskip("pycocotools")
    dataset = read_dataset(test_data() / "images" / "coco_val2017_128")
    model = test_data() / "models" / f"{name}.onnx"
    accuracy, _ = evaluate(model, read_model_spec(model), dataset)
    assert accuracy.ap == pytest.approx(ap, abs=0.005)
    assert person_ap is None or accuracy.classes[0][0] == pytest.approx(person_ap, abs=0.005)
