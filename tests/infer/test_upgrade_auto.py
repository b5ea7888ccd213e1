"""``runtime: auto`` takes the next runtime where a faster one cannot run; one asked for by name is an error."""

from __future__ import annotations

import weakref

import numpy as np
import pytest

from engines.cpu_runtime import CpuRuntime
from engines.errors import DeviceLostError, DeviceMemoryError, ModelError, PlanError, PlanMissingError
from engines.inspect_model import read_model_spec
from engines.precision.kept import kept_model
from engines.precision.typed_model import Calibration
from engines.runtime import RUNTIMES, RuntimeOptions, open_runtime
from pipeline.infer.upgrade import open_now
from tests.helpers.conv_onnx import SIZE, conv_detector
from tests.helpers.tiny_onnx import colour_detector

REASONS = [
    ModelError("output 'd' has another size for every picture"),
    PlanError("plan abc cannot be loaded"),
    DeviceMemoryError("no room for its slots"),
]


class Stub:
    """A runtime that is here, and cannot be opened."""

    error: Exception

    def __init__(self, *arguments):
        raise self.error

    @staticmethod
    def why_not():
        return None


@pytest.fixture
def fails_with(monkeypatch):
    """A function that puts a TensorRT into the table that raises ``error``."""

    def put(error):
        monkeypatch.setattr(Stub, "error", error, raising=False)
        monkeypatch.setitem(RUNTIMES, "tensorrt", f"{__name__}:Stub")
        monkeypatch.delitem(RUNTIMES, "cuda")

    return put


@pytest.fixture
def model(tmp_path):
    return colour_detector(tmp_path / "m.onnx", (160, 96))


@pytest.mark.parametrize("error", REASONS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("build", ["aside", "wait", "never"])
def test_auto_goes_on_with_the_next_runtime_and_says_why(model, fails_with, error, build, caplog):
    caplog.set_level("INFO")
    fails_with(error)
    spec = read_model_spec(model)
    runtime, upgrade = open_now("auto", model, spec, RuntimeOptions(), build)
    with runtime:
        assert runtime.name == "cpu"
    assert upgrade is None
    assert f"auto does not take tensorrt: {error}" in caplog.text
    with pytest.raises(type(error), match=str(error)):
        open_now("tensorrt", model, spec, RuntimeOptions(), build)


@pytest.mark.parametrize("error", REASONS, ids=lambda error: type(error).__name__)
def test_auto_without_a_pipeline_goes_on_too(model, fails_with, error):
    fails_with(error)
    with open_runtime("auto", model, read_model_spec(model), RuntimeOptions()) as runtime:
        assert runtime.name == "cpu"


class Weights:
    """What a runtime that could not be opened would hold on the GPU."""


class Heavy(Stub):
    """Fails with its weights in hand."""

    def __init__(self, *arguments):
        weights = Weights()
        Heavy.last = weakref.ref(weights)
        raise DeviceMemoryError("no room for its slots")


def test_what_a_refused_runtime_held_is_free_before_the_next_one_opens(model, monkeypatch):
    opened_with = []

    def cpu(*arguments):
        opened_with.append(Heavy.last())
        return CpuRuntime(*arguments)

    monkeypatch.setitem(RUNTIMES, "tensorrt", f"{__name__}:Heavy")
    monkeypatch.delitem(RUNTIMES, "cuda")
    monkeypatch.setattr("engines.cpu_runtime.CpuRuntime", cpu)
    runtime, _ = open_now("auto", model, read_model_spec(model), RuntimeOptions(), "aside")
    runtime.close()
    assert opened_with == [None]


def test_a_precision_that_no_other_runtime_has_is_no_reason_to_go_on(model, fails_with):
    fails_with(DeviceMemoryError("no room for its slots"))
    with pytest.raises(DeviceMemoryError, match="no room for its slots"):
        open_now("auto", model, read_model_spec(model), RuntimeOptions(precision="bf16"), "aside")


def test_a_gpu_that_is_lost_is_no_reason_to_go_on(model, fails_with):
    fails_with(DeviceLostError("a new process is needed"))
    with pytest.raises(DeviceLostError):
        open_now("auto", model, read_model_spec(model), RuntimeOptions(), "aside")


def test_a_plan_that_is_missing_is_built_aside(model, fails_with):
    fails_with(PlanMissingError("no plan yet."))
    runtime, upgrade = open_now("auto", model, read_model_spec(model), RuntimeOptions(), "aside")
    with runtime:
        assert runtime.name == "cpu"
    assert upgrade is not None and upgrade.name == "tensorrt"


@pytest.mark.parametrize("kept", [False, True])
def test_what_runs_meanwhile_is_calibrated_only_where_that_was_done_before(tmp_path, monkeypatch, fails_with, kept):
    monkeypatch.setenv("ONPACE_CACHE", str(tmp_path / "cache"))
    fails_with(PlanMissingError("no plan yet."))
    model = conv_detector(tmp_path / "conv.onnx")
    spec, read = read_model_spec(model), []

    def pictures():
        read.append(1)
        yield np.random.default_rng(0).random((1, 3, SIZE, SIZE), np.float32)

    calibration = Calibration(Fresh(pictures), "some")
    if kept:
        kept_model(model, spec, "int8", calibration)
        read.clear()
    options = RuntimeOptions(precision="int8", calibration=calibration)
    runtime, upgrade = open_now("auto", model, spec, options, "aside")
    with runtime:
        assert ("int8" in runtime.file.name) == kept
    assert upgrade is not None
    assert not read


def test_a_calibrated_precision_without_pictures_is_an_error_at_once(tmp_path, fails_with):
    fails_with(PlanMissingError("no plan yet."))
    model = conv_detector(tmp_path / "conv.onnx")
    with pytest.raises(ModelError, match="takes its ranges from pictures"):
        open_now("auto", model, read_model_spec(model), RuntimeOptions(precision="int8"), "aside")


class Fresh:
    """What can be gone through again and again."""

    def __init__(self, make):
        self._make = make

    def __iter__(self):
        return self._make()
