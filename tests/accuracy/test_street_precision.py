"""The bundled detector on its own clip in every precision: the same boxes, and eight bits cost no accuracy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engines.inspect_model import read_model_spec
from engines.precision.typed_model import Precision
from engines.runtime import RuntimeOptions, open_runtime
from pipeline.accuracy.account import account_for, points_lost
from pipeline.accuracy.calibration import calibration_from
from pipeline.accuracy.dataset import read_dataset
from pipeline.accuracy.detect import detect
from pipeline.detections import Detections
from pipeline.errors import AccuracyLostError
from pipeline.postprocess.head import open_head
from pipeline.postprocess.postprocess import Postprocess
from pipeline.preprocess.host import HostPreprocess
from samples.label_clip import write_dataset
from tests.cli.onpace_command import onpace
from tests.helpers.onpace_process import REPOSITORY

MODEL = REPOSITORY / "samples" / "street.onnx"
CLIP = str(REPOSITORY / "samples" / "street.mp4")
SPEC = read_model_spec(MODEL)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(cache, monkeypatch):
    monkeypatch.setenv("ONPACE_CACHE", str(cache))


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("street")
    assert write_dataset(folder, every=60) == 9
    return folder


def boxes(labelled: Path, precision: Precision) -> list[Detections]:
    options = RuntimeOptions(threads=1, precision=precision, calibration=calibration_from([CLIP], SPEC, 8))
    post = Postprocess(SPEC, open_head(SPEC), score_threshold=0.4, iou_threshold=0.6, max_detections=100)
    paths = [picture.path for picture in read_dataset(labelled).pictures]
    with open_runtime("cpu", MODEL, SPEC, options) as runtime:
        assert precision in runtime.describe()
        slot = runtime.slots[0]
        return [found for _, found in detect(paths, slot, HostPreprocess(SPEC, slot.input), post)]


@pytest.mark.parametrize(("precision", "pixels", "share"), [("fp16", 1.0, 0.99), ("int8", 8.0, 0.9)])
def test_the_same_objects_are_found(labelled, precision, pixels, share):
    """``share`` of the fp32 model's boxes have one of the same class with every edge within ``pixels`` of 640x360."""
    matched = total = 0
    for before, after in zip(boxes(labelled, "fp32"), boxes(labelled, precision), strict=True):
        for box, class_id in zip(before.xyxy, before.class_ids, strict=True):
            same = after.xyxy[after.class_ids == class_id]
            matched += bool(len(same)) and bool((np.abs(same - box).max(axis=1) <= pixels).any())
            total += 1
    assert total > 50
    assert matched >= share * total


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_eight_bits_cost_less_than_one_point_of_ap(labelled, method):
    pytest.importorskip("pycocotools")
    calibration = calibration_from([CLIP], SPEC, 8, method)
    before, after = account_for(MODEL, SPEC, read_dataset(labelled), "int8", calibration, max_ap_loss=1.0)
    assert before.ap > 0.5
    assert points_lost(before, after) <= 1.0


def test_a_model_calibrated_on_the_wrong_pictures_is_refused(labelled, tmp_path):
    """Ranges from black pictures cut off whatever the layers say of real ones."""
    pytest.importorskip("pycocotools")
    import cv2

    cv2.imwrite(str(tmp_path / "black.png"), np.zeros((360, 640, 3), np.uint8))
    calibration = calibration_from([str(tmp_path / "black.png")], SPEC)
    with pytest.raises(AccuracyLostError, match=r"int8 of street loses \d+\.\d points of AP .* allowed are 1 "):
        account_for(MODEL, SPEC, read_dataset(labelled), "int8", calibration, max_ap_loss=1.0)


def test_eval_says_what_a_precision_costs_and_fails_where_it_is_too_much(labelled, cache):
    pytest.importorskip("pycocotools")
    common = ["eval", "sample:street.onnx", labelled, "--precision", "fp16", "--limit", "3"]
    done = onpace(*common, "--max-ap-loss", "1", "--json", ONPACE_CACHE=str(cache))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["precision"] == "fp16"
    assert abs(report["ap_loss"]) < 1
    refused = onpace(*common[:3], "--precision", "int8", ONPACE_CACHE=str(cache))
    assert refused.returncode == 2
    assert "--calibration" in refused.stderr


def test_each_way_to_calibrate_is_a_model_of_its_own(labelled, tmp_path):
    pytest.importorskip("pycocotools")
    options = ["--precision", "int8", "--calibration", "sample:street.mp4", "--calibration-pictures", "2"]
    for count, method in enumerate(("percentile", "entropy", "minmax"), 1):
        done = onpace(
            "eval", "sample:street.onnx", labelled, "--runtime", "cpu", "--limit", "1", *options,
            "--calibration-method", method, ONPACE_CACHE=str(tmp_path),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert len(list((tmp_path / "models").glob("street-int8-*.cpu.onnx"))) == count
    refused = onpace("eval", "sample:street.onnx", labelled, *options, "--calibration-method", "guess")
    assert refused.returncode == 2
    assert "'percentile', 'entropy', 'minmax'" in " ".join(refused.stderr.split())


@pytest.mark.e2e
def test_a_configuration_runs_in_eight_bits(cache, tmp_path):
    (tmp_path / "int8.yaml").write_text(
        "streams: [{id: street, url: 'pattern:?frames=5'}]\n"
        "infer: {model: 'sample:street.onnx', runtime: cpu, precision: int8, calibration: ['sample:street.mp4'], "
        "calibration_pictures: 8, calibration_method: entropy}\n"
    )
    done = onpace("run", tmp_path / "int8.yaml", "--json", ONPACE_CACHE=str(cache))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["streams"][0]["published"] == 5
    assert list((cache / "models").glob("street-int8-*.cpu.onnx"))
