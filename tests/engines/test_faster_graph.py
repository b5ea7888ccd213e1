"""A rewritten graph answers what the original answers, and whatever is not exactly the pattern stays as it is."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from engines.faster_graph import faster_graph
from tests.helpers.graph_onnx import answers, graph_model
from tests.helpers.test_data import test_data

LAST = np.iinfo(np.int64).max
PHASES = ((0, 0), (1, 0), (0, 1), (1, 1))
random = np.random.default_rng(3)


def focus(
    path: Path, *, order=PHASES, kernel=3, stride=1, pad=1, end=LAST, step=2, axis=-1, constants="weights", **conv
):
    """Four slices of every second row and column, stacked and convolved: what YOLOX begins with."""
    weights = {"kernel": random.standard_normal((8, 12 // conv.get("group", 1), kernel, kernel)).astype(np.float32)}
    weights["bias"] = random.standard_normal(8).astype(np.float32)
    nodes, given = [], {}
    for number, (row, column) in enumerate(order):
        for dimension, start, source, made in (
            (2, row, "x", f"rows{number}"),
            (axis, column, f"rows{number}", f"part{number}"),
        ):
            names = [f"{made}_{what}" for what in ("start", "end", "axis", "step")]
            given.update(zip(names, (np.array([v], np.int64) for v in (start, end, dimension, step)), strict=True))
            nodes.append(helper.make_node("Slice", [source, *names], [made]))
    if constants == "weights":
        weights.update(given)
    else:
        made = [helper.make_node("Constant", [], [k], value=numpy_helper.from_array(v)) for k, v in given.items()]
        nodes = made + nodes
    nodes.append(helper.make_node("Concat", [f"part{number}" for number in range(4)], ["stack"], axis=1))
    conv = {"strides": [stride] * 2, "pads": [pad] * 4, **conv}
    nodes.append(helper.make_node("Conv", ["stack", "kernel", "bias"], ["y"], **conv))
    return graph_model(path, nodes, weights, (1, 3, 32, 48))


def pools(path: Path, sides=(5, 9, 13), **facts):
    """Maxima over growing squares, stacked."""
    nodes = [
        helper.make_node("MaxPool", ["x"], [f"m{s}"], kernel_shape=[s, s], pads=[s // 2] * 4, strides=[1, 1], **facts)
        for s in sides
    ]
    nodes.append(helper.make_node("Concat", ["x", *(f"m{s}" for s in sides)], ["y"], axis=1))
    return graph_model(path, nodes, {}, (1, 4, 13, 17))


def shares(path: Path, *, axis=1, opset=17, moved=False, out_channels=1, **conv):
    """Softmax over 16 shares, summed by a 1x1 convolution: boxes of YOLOv8."""
    weights = {"kernel": random.standard_normal((out_channels, 16, 1, 1)).astype(np.float32)}
    if moved:
        nodes = [
            helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 2, 1]),
            helper.make_node("Softmax", ["t"], ["s"], axis=3),
            helper.make_node("Transpose", ["s"], ["u"], perm=[0, 3, 2, 1]),
            helper.make_node("Conv", ["u", "kernel"], ["y"], **conv),
        ]
    else:
        nodes = [
            helper.make_node("Softmax", ["x"], ["s"], axis=axis),
            helper.make_node("Conv", ["s", "kernel"], ["y"], **conv),
        ]
    return graph_model(path, nodes, weights, (1, 16, 4, 50), opset)


def ops(model: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(model).graph.node]


REWRITTEN = {
    "focus": (focus, {}, ["Conv"]),
    "focus of constants": (focus, {"constants": "nodes"}, ["Conv"]),
    "focus with stride": (focus, {"stride": 2, "kernel": 1, "pad": 0}, ["Conv"]),
    "pools": (pools, {}, ["MaxPool"] * 3 + ["Concat"]),
    "pools in any order": (pools, {"sides": (13, 5, 9)}, ["MaxPool"] * 3 + ["Concat"]),
    "shares": (shares, {}, ["Transpose", "Softmax", "MatMul", "Transpose"]),
    "shares that were moved": (shares, {"moved": True, "opset": 11}, ["Transpose", "Softmax", "MatMul", "Transpose"]),
}

LEFT_ALONE = {
    "focus with a phase twice": (focus, {"order": (*PHASES[:3], PHASES[0])}),
    "focus that stops early": (focus, {"end": 30}),
    "focus of every pixel": (focus, {"step": 1}),
    "focus of one axis": (focus, {"axis": 2}),
    "focus with groups": (focus, {"group": 2}),
    "focus with dilation": (focus, {"dilations": [2, 2], "pads": [2] * 4}),
    "focus with automatic padding": (focus, {"auto_pad": "SAME_UPPER", "pads": None}),
    "one pool": (pools, {"sides": (5,)}),
    "even pools": (pools, {"sides": (4, 8)}),
    "pools with dilation": (pools, {"dilations": [2, 2]}),
    "shares of many axes": (shares, {"opset": 11}),
    "shares of another axis": (shares, {"axis": 2}),
    "shares to many channels": (shares, {"out_channels": 12}),
    "shares with padding": (shares, {"pads": [1] * 4}),
}


@pytest.mark.parametrize("name", REWRITTEN)
def test_a_rewritten_graph_answers_the_same(tmp_path, name):
    make, facts, expected = REWRITTEN[name]
    model = make(tmp_path / "m.onnx", **facts)
    rewritten = faster_graph(model)
    assert rewritten is not None
    assert ops(rewritten) == expected
    onnx.checker.check_model(onnx.load_from_string(rewritten), full_check=True)
    shape = [dim.dim_value for dim in onnx.load(model).graph.input[0].type.tensor_type.shape.dim]
    x = random.standard_normal(shape).astype(np.float32)
    np.testing.assert_allclose(answers(rewritten, x), answers(model, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("order", list(itertools.permutations(PHASES))[::5])
def test_focus_stacks_its_slices_in_any_order(tmp_path, order):
    model = focus(tmp_path / "m.onnx", order=order)
    x = random.standard_normal((1, 3, 32, 48)).astype(np.float32)
    np.testing.assert_allclose(answers(faster_graph(model), x), answers(model, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_what_is_not_exactly_the_pattern_stays(tmp_path, name):
    make, facts = LEFT_ALONE[name]
    assert faster_graph(make(tmp_path / "m.onnx", **facts)) is None


@pytest.mark.parametrize("name", ["yolox_nano_416.onnx", "yolov8n_640_dequant_AGPL.onnx"])
def test_real_detectors_answer_the_same(name):
    model = test_data() / "models" / name
    rewritten = faster_graph(model)
    assert rewritten is not None
    size = onnx.load(model).graph.input[0].type.tensor_type.shape.dim[3].dim_value
    x = random.random((1, 3, size, size), np.float32)
    was, now = answers(model, x), answers(rewritten, x)
    assert np.abs(now - was).max() <= 1e-4 * np.abs(was).max()


def test_weights_beside_the_file_stay_there(tmp_path):
    model = pools(tmp_path / "m.onnx")
    proto = onnx.load(model)
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros(2000, np.float32), "unused"))
    onnx.save(proto, model, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert faster_graph(model) is None
