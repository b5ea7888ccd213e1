"""Boxes whose distributions are summed where they are: the same numbers, and only where the pattern is exactly that."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from engines.inspect_model import read_model_spec
from engines.precision.typed_model import typed_model
from engines.trt.faster_tail import faster_tail
from tests.helpers.graph_onnx import answers, graph_model
from tests.helpers.test_data import test_data

random = np.random.default_rng(4)
MOVED = {"before": (0, 3, 1, 2), "axis": 3, "after": (0, 3, 2, 1)}
"""How YOLOv8's exporter wrote it; before that, the softmax was of the channels."""
CHANNELS = {"before": (0, 2, 1, 3), "axis": 1, "after": None}


def distributions(path: Path, *, before, axis, after, out_channels=1, bias=False, opset=17, source=(2, 4, 16, 50)):
    """Write a graph from float32 "x", edges of 16 shares each, to "y", one mean an edge."""
    weights = {"kernel": random.standard_normal((out_channels, 16, 1, 1)).astype(np.float32)}
    if bias:
        weights["bias"] = np.ones(out_channels, np.float32)
    nodes, name = [], "x"
    if before is not None:
        nodes.append(helper.make_node("Transpose", [name], ["t"], perm=before))
        name = "t"
    nodes.append(helper.make_node("Softmax", [name], ["s"], axis=axis))
    name = "s"
    if after is not None:
        nodes.append(helper.make_node("Transpose", [name], ["u"], perm=after))
        name = "u"
    nodes.append(helper.make_node("Conv", [name, *weights], ["y"]))
    return graph_model(path, nodes, weights, source, opset)


@pytest.mark.parametrize("written", [MOVED, CHANNELS], ids=["moved to the end", "moved to the channels"])
def test_means_are_taken_where_the_shares_are(tmp_path, written):
    model = distributions(tmp_path / "m.onnx", **written)
    rewritten = faster_tail(model)
    assert rewritten is not None
    made = onnx.load_from_string(rewritten)
    assert [node.op_type for node in made.graph.node] == ["Softmax", "Mul", "ReduceSum", "Transpose"]
    assert len({node.name for node in made.graph.node}) == 4, "layers are held in their precision by name"
    onnx.checker.check_model(made, full_check=True)
    x = random.standard_normal((2, 4, 16, 50)).astype(np.float32)
    np.testing.assert_allclose(answers(rewritten, x), answers(model, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "other",
    [
        {"out_channels": 3},
        {"bias": True},
        {"opset": 12},
        {"axis": 2, "source": (2, 4, 50, 16)},
        {"before": (0, 2, 3, 1), "source": (2, 4, 16, 16)},
        {"after": (0, 3, 1, 2)},
        {"before": None, "source": (2, 50, 4, 16)},
    ],
    ids=[
        "several means",
        "a bias",
        "an old softmax",
        "other axis",
        "other order",
        "other order after",
        "nothing moved",
    ],
)
def test_what_is_not_exactly_the_pattern_stays(tmp_path, other):
    assert faster_tail(distributions(tmp_path / "m.onnx", **{**MOVED, **other})) is None


def test_a_real_detector_in_half_precision_answers_the_same(tmp_path):
    model = test_data() / "models/yolov8n_640_dequant_AGPL.onnx"
    spec = read_model_spec(model)
    typed = typed_model(model, spec, "fp16", None, tmp_path / "fp16.onnx").path
    rewritten = faster_tail(typed)
    assert rewritten is not None
    x = random.random((1, 3, spec.input_height, spec.input_width), np.float32).astype(np.float16)
    was, now = answers(typed, x), answers(rewritten, x)
    assert np.abs(now - was).max() <= 1e-4 * np.abs(was).max()
