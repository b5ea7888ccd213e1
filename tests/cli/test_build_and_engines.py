"""``onpace build`` and ``onpace engines`` against the real TensorRT for RTX, which builds without a GPU."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import replace

import pytest

from engines.inspect_model import read_model_spec
from engines.plan_building import PlanBuilder
from engines.precision.typed_model import typed_model
from engines.runtime import PlanOptions, RuntimeOptions
from pipeline.cli.build import build
from pipeline.config.load import load_config
from pipeline.samples import find_model
from tests.cli.onpace_command import ROOT, onpace
from tests.helpers.conv_onnx import conv_detector
from tests.helpers.tiny_onnx import colour_detector, do_nothing_detector

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (extra: test)")


def test_plan_is_built_once_listed_verified_and_pruned(tmp_path):
    model = do_nothing_detector(tmp_path / "m.onnx", (96, 96))
    store = tmp_path / "plans"
    first, again = (json.loads(onpace("build", str(model), "--store", str(store), "--json").stdout) for _ in range(2))
    assert (first["built"], again["built"]) == (True, False)
    assert first["digest"] == again["digest"]
    listed = json.loads(onpace("engines", "list", "--store", str(store), "--json").stdout)
    assert [plan["digest"] for plan in listed["plans"]] == [first["digest"]]
    plan = store / f"{first['digest']}.plan"
    plan.write_bytes(plan.read_bytes()[:-1])
    broken = onpace("engines", "verify", "--store", str(store))
    assert broken.returncode == 1
    assert "altered or cut short" in broken.stdout
    assert broken.stdout.endswith(f"onpace engines prune --broken --store {store}\n")
    assert json.loads(onpace("build", str(model), "--store", str(store), "--json").stdout)["built"]
    assert onpace("engines", "verify", "--store", str(store)).returncode == 0
    (store / f"{first['digest']}.json").write_text("{")
    assert json.loads(onpace("build", str(model), "--store", str(store), "--json").stdout)["built"]
    plan.write_bytes(plan.read_bytes()[:-1])
    assert "1 plans removed" in onpace("engines", "prune", "--broken", "--store", str(store)).stdout
    assert json.loads(onpace("engines", "list", "--store", str(store), "--json").stdout)["plans"] == []


def test_who_waited_for_another_that_built_did_not_build(tmp_path, monkeypatch, capsys):
    model, store = do_nothing_detector(tmp_path / "m.onnx", (96, 96)), tmp_path / "plans"
    options = RuntimeOptions(plans=PlanOptions(store=store))
    other = PlanBuilder.open(model, read_model_spec(model), options, to_run=False)
    inside, waited = threading.Event(), threading.Event()

    def slowly():
        inside.set()
        assert waited.wait(20)
        return b"plan"

    thread = threading.Thread(target=lambda: other.store.find_or_build(other.key, "m", slowly))
    thread.start()
    assert inside.wait(20)
    monkeypatch.setattr(PlanBuilder, "_cancelled", lambda self: waited.set())  # asked while it waits
    build(str(model), store=store, json=True)
    thread.join()
    report = json.loads(capsys.readouterr().out)
    assert not report["built"]
    assert report["bytes"] == len(b"plan")


def test_the_documented_default_batches_are_those_that_are_built(tmp_path):
    model = colour_detector(tmp_path / "m.onnx", (96, 96))
    built = json.loads(onpace("build", str(model), "--store", str(tmp_path / "plans"), "--json").stdout)
    page = (ROOT / "docs" / "commands.md").read_text()
    assert re.findall(r"batches to build for, default (\d+:\d+:\d+)", page) == [built["batch"]]
    assert f"default: {built['batch']}" in " ".join(onpace("build", "--help").stdout.replace("│", "").split())


@pytest.mark.parametrize("name", ["tensorrt", "jetson"])
def test_the_plan_that_a_configuration_says_to_build_is_the_one_that_it_runs(tmp_path, name):
    path = ROOT / "configs" / f"{name}.yaml"
    comment = " ".join(line.removeprefix("# ") for line in path.read_text().splitlines() if line.startswith("#"))
    (command,) = re.findall(r"onpace (build sample:\S+(?: --[a-z-]+ [\w:]+)*)", comment)
    built = json.loads(onpace(*command.split(), "--store", str(tmp_path / "plans"), "--json").stdout)
    config = load_config(path)
    model = find_model(config.infer.model)
    options = RuntimeOptions(
        max_batch=config.infer.batch_size,
        precision=config.infer.precision,
        plans=replace(config.engine.options(), store=tmp_path / "plans"),
    )
    found = PlanBuilder.open(model, read_model_spec(model), options, to_run=False).find()
    assert found is not None and found.digest == built["digest"]


def test_what_cannot_be_built_ends_with_2_and_one_line(tmp_path):
    model = do_nothing_detector(tmp_path / "m.onnx", (96, 96))
    for arguments in (["--batch", "1:8:8"], ["--version-compatible"]):
        done = onpace("build", str(model), "--store", str(tmp_path / "plans"), *arguments)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1


def test_a_file_that_is_fp16_is_built_as_it_is_and_never_called_fp32(tmp_path):
    model = conv_detector(tmp_path / "m.onnx", dynamic_batch=True)
    half = typed_model(model, read_model_spec(model), "fp16", None, tmp_path / "half.onnx").path
    refused = onpace("build", half, "--precision", "fp32", "--store", tmp_path / "plans")
    assert refused.returncode == 2
    assert "is fp16 already" in refused.stderr
    built = onpace("build", half, "--store", tmp_path / "plans", "--json")
    assert json.loads(built.stdout)["precision"] == "as it is"
