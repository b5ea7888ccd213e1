"""``onpace build`` says what a precision costs before it builds, and builds nothing that costs too much."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from engines.inspect_model import read_model_spec
from pipeline.accuracy.account import account_for, points_lost
from pipeline.accuracy.calibration import calibration_from
from pipeline.accuracy.dataset import read_dataset
from pipeline.samples import find_sample
from samples.label_clip import write_dataset
from tests.cli.onpace_command import onpace
from tests.helpers.tiny_onnx import planted_detector


def test_a_precision_that_loses_too_much_is_not_built(tmp_path):
    pytest.importorskip("pycocotools")
    write_dataset(tmp_path / "street", every=120)
    cv2.imwrite(str(tmp_path / "black.png"), np.zeros((360, 640, 3), np.uint8))
    done = onpace(
        "build", "sample:street.onnx", "--precision", "int8", "--calibration", tmp_path / "black.png",
        "--dataset", tmp_path / "street", "--max-ap-loss", "1", "--store", tmp_path / "plans",
        ONPACE_CACHE=str(tmp_path / "cache"),
    )  # fmt: skip
    assert done.returncode == 2
    assert "points of AP" in done.stderr and "allowed are 1 (--max-ap-loss)" in done.stderr
    assert not list(tmp_path.glob("plans/**/*.plan"))


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_what_a_precision_loses_is_measured_on_the_file_that_the_plan_is_made_of(tmp_path, monkeypatch, precision):
    pytest.importorskip("pycocotools")
    monkeypatch.setenv("ONPACE_CACHE", str(tmp_path / "cache"))
    write_dataset(tmp_path / "street", every=120)
    model = find_sample("street.onnx")
    spec = read_model_spec(model)
    calibration = calibration_from([str(find_sample("street.mp4"))], spec, 8)
    before, after = account_for(model, spec, read_dataset(tmp_path / "street"), precision, calibration)
    assert after.ap != before.ap
    assert -2.0 < points_lost(before, after) < 5.0


def test_a_limit_without_pictures_is_refused():
    done = onpace("build", "sample:street.onnx", "--precision", "fp16", "--max-ap-loss", "1")
    assert done.returncode == 2
    assert "add --dataset" in done.stderr


@pytest.mark.parametrize("command", [["build"], ["eval", "nowhere"]])
@pytest.mark.parametrize(
    ("options", "got"),
    [([], "but none is given"), (["--precision", "fp16"], "not fp16"), (["--precision", "bf16"], "not bf16")],
)
def test_pictures_that_no_precision_looks_at_are_refused(command, options, got):
    done = onpace(command[0], "sample:street.onnx", *command[1:], "--calibration", "sample:street.mp4", *options)
    assert done.returncode == 2
    assert f"--calibration is for --precision int8 or fp8, {got}" in done.stderr


def test_a_file_that_no_precision_can_be_made_of_is_told_before_a_library_that_is_missing(tmp_path):
    missing = "No module named 'tensorrt'"
    (tmp_path / "tensorrt.py").write_text(f"raise ModuleNotFoundError({missing!r})")
    half = planted_detector(tmp_path / "half.onnx", (96, 96), [], dtype="float16")
    store = ["--store", tmp_path / "plans"]
    refused = onpace("build", half, "--precision", "fp16", *store, PYTHONPATH=str(tmp_path))
    assert refused.returncode == 2
    assert "is fp16 already" in refused.stderr and missing not in refused.stderr
    assert missing in onpace("build", half, *store, PYTHONPATH=str(tmp_path)).stderr
