"""Typed models are found again by everything that went into them, and made again where they are not whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from engines.cpu_runtime import CpuRuntime
from engines.errors import ModelError
from engines.inspect_model import read_model_spec
from engines.precision.kept import kept_model, model_digest
from engines.precision.prepare import file_precision
from engines.precision.typed_model import Calibration
from engines.runtime import RuntimeOptions
from tests.helpers.conv_onnx import SIZE, conv_detector

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def model(tmp_path) -> Path:
    return conv_detector(tmp_path / "conv.onnx")


def calibration(**changes) -> Calibration:
    picture = np.random.default_rng(0).random((1, 3, SIZE, SIZE), dtype=np.float32)
    return Calibration(**{"tensors": [picture], "digest": "some", **changes})


def test_a_model_is_made_once_and_again_when_an_ingredient_changes(model, tmp_path):
    spec = read_model_spec(model)

    def kept(precision="int8", frames=None, of=model) -> Path:
        return kept_model(of, spec, precision, frames or calibration())

    first = kept()
    made_at = first.stat().st_mtime_ns
    assert kept(frames=calibration(tensors=[])) == first  # not gone through: it is there
    assert first.stat().st_mtime_ns == made_at
    changed = onnx.load(str(model))
    changed.producer_name = "another"
    onnx.save(changed, str(tmp_path / "changed.onnx"))
    others = [
        kept("fp16"),
        kept(frames=calibration(digest="other")),
        kept(frames=calibration(method="minmax")),
        kept(frames=calibration(percentile=99.9)),
        kept(of=tmp_path / "changed.onnx"),
    ]
    assert len({first, *others}) == 1 + len(others)
    assert kept("fp32") == model
    assert json.loads(first.with_suffix(".json").read_text())["seconds"] > 0


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8", "fp8"])
def test_a_file_that_was_typed_is_known_by_what_it_is_and_no_fp32(model, precision):
    spec = read_model_spec(model)
    assert file_precision(model) == "fp32"
    typed = kept_model(model, spec, precision, calibration())
    assert file_precision(typed) == precision
    with pytest.raises(ModelError, match=r"already.*\. Give the fp32 model it was made from"):
        kept_model(typed, spec, "fp32", None)
    with pytest.raises(ModelError, match=r"already.*\. Give the fp32 model it was made from"):
        CpuRuntime(typed, spec, RuntimeOptions(precision="fp32"))


def test_weights_beside_the_model_are_an_ingredient(model, tmp_path):
    proto = onnx.load(str(model))
    beside = tmp_path / "beside.onnx"
    onnx.save(proto, str(beside), save_as_external_data=True, location="beside.bin", size_threshold=0)
    before = kept_model(beside, read_model_spec(beside), "fp16", None)
    assert not any(
        t.data_location == t.EXTERNAL for t in onnx.load(str(before), load_external_data=False).graph.initializer
    )
    weights = bytearray((tmp_path / "beside.bin").read_bytes())
    weights[0] ^= 1
    (tmp_path / "beside.bin").write_bytes(bytes(weights))
    assert kept_model(beside, read_model_spec(beside), "fp16", None) != before


def test_constants_kept_beside_the_model_are_an_ingredient_too(model, tmp_path):
    proto = onnx.load(str(model))
    graph = proto.graph
    for tensor in list(graph.initializer):  # as exporters write them that know no initializers
        graph.node.insert(0, onnx.helper.make_node("Constant", [], [tensor.name], value=tensor))
    del graph.initializer[:]
    beside = tmp_path / "constants.onnx"
    onnx.save(proto, str(beside), save_as_external_data=True, location="constants.bin", size_threshold=0,
              convert_attribute=True)  # fmt: skip
    before = model_digest(beside)
    weights = bytearray((tmp_path / "constants.bin").read_bytes())
    weights[0] ^= 1
    (tmp_path / "constants.bin").write_bytes(bytes(weights))
    assert model_digest(beside) != before


def test_a_kept_model_that_was_damaged_is_made_again(model, tmp_path):
    def kept() -> Path:
        return kept_model(model, read_model_spec(model), "int8", calibration(), form="cpu", folder=tmp_path / "kept")

    whole = kept().read_bytes()
    for damaged in (whole[:-1] + b"x", whole[:100], b""):
        kept().write_bytes(damaged)
        assert kept().read_bytes() == whole


def test_a_model_that_failed_leaves_nothing_behind(model, tmp_path):
    with pytest.raises(ModelError):
        kept_model(model, read_model_spec(model), "int8", calibration(tensors=[]), folder=tmp_path / "kept")
    assert not list((tmp_path / "kept").glob("*")) if (tmp_path / "kept").exists() else True
