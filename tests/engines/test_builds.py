"""What had to be made before a model ran is counted, however it ended."""

from __future__ import annotations

import pytest

from engines.builds import RESULTS, BuildCount, Builds
from engines.errors import EngineError
from engines.inspect_model import read_model_spec
from engines.plan_building import PlanBuilder
from engines.runtime import PlanOptions, RuntimeOptions, open_runtime
from tests.helpers.tiny_onnx import colour_detector


def counted(builds: Builds) -> dict[tuple[str, str, str], int]:
    return {(one.runtime, one.precision, one.result): one.builds for one in builds.counts() if one.builds}


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.setenv("ONPACE_CACHE", str(tmp_path / "cache"))
    return colour_detector(tmp_path / "m.onnx", (160, 96))


def test_a_model_in_another_precision_is_built_once_and_found_again(model):
    spec = read_model_spec(model)
    builds = Builds()
    for expected in ("built", "found"):
        open_runtime("cpu", model, spec, RuntimeOptions(precision="fp16", builds=builds)).close()
        assert counted(builds)["cpu", "fp16", expected] == 1
    seconds = {one.result: one.seconds for one in builds.counts()}
    assert seconds["built"] > 0
    assert seconds["found"] == 0


def test_a_model_that_runs_as_it_is_needs_no_build_and_is_counted_from_zero(model):
    builds = Builds()
    open_runtime("cpu", model, read_model_spec(model), RuntimeOptions(builds=builds)).close()
    assert [tuple(one) for one in builds.counts()] == [("cpu", "as_is", result, 0, 0.0) for result in RESULTS]


def test_a_build_that_fails_is_counted_as_that(model):
    builds = Builds()
    with pytest.raises(EngineError):  # int8 takes its ranges from pictures, and there are none
        open_runtime("cpu", model, read_model_spec(model), RuntimeOptions(precision="int8", builds=builds))
    assert counted(builds) == {("cpu", "int8", "failed"): 1}


def test_a_build_that_somebody_ended_is_no_failure():
    builds = Builds()
    with pytest.raises(RuntimeError), builds.making("tensorrt", None, cancelled=lambda: True):
        raise RuntimeError("building was cancelled")
    assert counted(builds) == {("tensorrt", "as_is", "cancelled"): 1}


def test_what_other_processes_built_is_added():
    builds = Builds()
    with builds.making("cpu", "int8"):
        pass
    builds.elsewhere = lambda: [
        BuildCount("cpu", "int8", "built", 2, 30.0),
        BuildCount("cuda", "fp16", "found", 1, 0.0),
    ]
    assert counted(builds) == {("cpu", "int8", "built"): 3, ("cuda", "fp16", "found"): 1}
    assert sum(one.seconds for one in builds.counts()) == pytest.approx(30.0, abs=1.0)


@pytest.mark.runtime("tensorrt")
def test_a_plan_is_built_once_and_found_again(model, tmp_path):
    spec, builds = read_model_spec(model), Builds()
    options = RuntimeOptions(plans=PlanOptions(store=tmp_path / "plans"), builds=builds)
    flavour = PlanBuilder.open(model, spec, options, to_run=True).library.flavour
    for expected in ("built", "found"):
        open_runtime("tensorrt", model, spec, options).close()
        assert counted(builds)[flavour, "as_is", expected] == 1
