"""Channels in whole groups for TensorRT: the same answers, parts that begin with a group, and nothing else touched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import av
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from engines.inspect_model import read_model_spec
from engines.precision.kept import kept_model
from engines.precision.layers import find_layers
from engines.precision.quantise import quantised
from engines.precision.typed_model import Calibration, typed_model
from engines.precision.widths import widened
from engines.shape_profile import ShapeProfile
from engines.trt.builder import build_plan
from engines.trt.library import load_library
from engines.trt.options import BuildOptions
from tests.helpers.onpace_process import REPOSITORY
from tests.helpers.test_data import test_data
from tests.helpers.yolo_onnx import yolo_detector

STREET = REPOSITORY / "samples" / "street.onnx"
FRAMES = 3


def pictures(model: Path) -> list[np.ndarray]:
    """Return frames of the sample clip as ``model`` takes them, each float32 ``[1, 3, H, W]``."""
    spec, found = read_model_spec(model), []
    with av.open(str(REPOSITORY / "samples" / "street.mp4")) as clip:
        for number, frame in enumerate(clip.decode(video=0)):
            if number % 40 == 20:
                pixels = frame.to_ndarray(format="rgb24", width=spec.input_width, height=spec.input_height)
                found.append(pixels.transpose(2, 0, 1)[None].astype(np.float32) / 255)
            if len(found) == FRAMES:
                return found
    raise AssertionError("the clip is shorter than that")


def eight_bits(model: Path, out: Path) -> Any:
    spec = read_model_spec(model)
    return onnx.load(str(typed_model(model, spec, "int8", Calibration(pictures(model)[:1], "street"), out).path))


def answers(model: Any, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # literally
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def widths_of(model: Any) -> dict[str, int]:
    """Return the channels of all maps ``[N, C, H, W]``."""
    shapes = {value.name: value.type.tensor_type.shape.dim for value in model.graph.value_info}
    return {name: dims[1].dim_value for name, dims in shapes.items() if len(dims) == 4}


def beginnings(model: Any) -> Iterator[tuple[str, int]]:
    """Yield the channels at which parts of joins and splits of the body begin, with the names of the nodes."""
    widths = widths_of(onnx.shape_inference.infer_shapes(model))
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    tail = find_layers(model.graph).tail
    for node in (node for node in model.graph.node if node.name not in tail):
        parts = {"Concat": node.input, "Split": node.output}.get(node.op_type, [])
        if parts and all(name in widths for name in parts):
            yield from ((node.name, first) for first in accumulate([widths[part] for part in parts[:-1]], initial=0))
        elif node.op_type == "Slice" and node.input[0] in widths and constants[node.input[3]] == [1]:
            yield node.name, int(constants[node.input[1]][0])


def same_answers_in_whole_groups(model: Path, narrow: Any) -> Any:
    wide = widened(narrow)
    assert wide is not narrow
    onnx.checker.check_model(wide, full_check=True)
    (fed,) = (value.name for value in wide.graph.input)
    for picture in pictures(model):
        for before, after in zip(answers(narrow, {fed: picture}), answers(wide, {fed: picture}), strict=True):
            np.testing.assert_array_equal(before, after)
    assert [node.name for node in wide.graph.node] == [node.name for node in narrow.graph.node]
    return wide


# --- real networks


@pytest.mark.parametrize("name", ["street", "yolov8n"])
def test_every_part_begins_with_a_group_and_answers_are_the_same_bits(tmp_path, name):
    model = STREET if name == "street" else test_data() / "models" / "yolov8n_640_dequant_AGPL.onnx"
    narrow = eight_bits(model, tmp_path / "int8.onnx")
    assert any(first % 32 for _, first in beginnings(narrow))
    wide = same_answers_in_whole_groups(model, narrow)
    assert len(list(beginnings(wide))) == len(list(beginnings(narrow))) > 15
    assert not [at for at in beginnings(wide) if at[1] % 32]


def test_depthwise_convolutions_keep_their_widths(tmp_path):
    model = test_data() / "models" / "yolox_nano_416.onnx"
    narrow = eight_bits(model, tmp_path / "int8.onnx")
    wide = same_answers_in_whole_groups(model, narrow)

    def depthwise(proto: Any) -> dict[str, tuple[int, ...]]:
        widths, found = widths_of(onnx.shape_inference.infer_shapes(proto)), {}
        for node in proto.graph.node:
            if any(attribute.name == "group" and attribute.i > 1 for attribute in node.attribute):
                found[node.name] = (widths[node.input[0]], widths[node.output[0]])
        return found

    assert depthwise(wide) == depthwise(narrow)
    assert len(depthwise(wide)) > 20


def test_what_does_not_stay_in_eight_bits_is_not_widened(tmp_path):
    """The first convolution's result, and what the last ones read: in float, padding would cost."""
    wide = widened(eight_bits(STREET, tmp_path / "int8.onnx"))
    constants = {tensor.name: list(tensor.dims) for tensor in wide.graph.initializer}
    kernels = [constants.get(node.input[1]) for node in wide.graph.node if node.op_type == "Conv"]
    assert [kernel for kernel in kernels if kernel] == [[16, 3, 3, 3], *[[4, 48, 1, 1], [48, 48, 1, 1]] * 3]


def test_widths_that_fit_are_left_alone(tmp_path):
    narrow = eight_bits(yolo_detector(tmp_path / "s.onnx", width=0.5, size=(96, 64)), tmp_path / "int8.onnx")
    before = narrow.SerializeToString()
    assert widened(narrow) is narrow
    assert narrow.SerializeToString() == before


def test_halves_of_a_few_channels_are_left_alone(tmp_path):
    """Of 32 channels 28 would be padding."""
    narrow = eight_bits(yolo_detector(tmp_path / "t.onnx", width=0.0625, size=(96, 64)), tmp_path / "int8.onnx")
    wide = widened(narrow)
    before, after = ({at[1] for at in beginnings(model)} for model in (narrow, wide))
    assert {4, 8} <= before & after
    assert wide is not narrow  # others have halves of 8


def test_only_tensorrt_gets_the_wide_form(tmp_path):
    model = yolo_detector(tmp_path / "n.onnx", width=0.25, size=(96, 64))
    spec, frames = read_model_spec(model), Calibration(pictures(model)[:1], "street")
    kernels = {}
    for form in ("typed", "cpu", "tensorrt"):
        kept = kept_model(model, spec, "int8", frames, form=form, folder=tmp_path / "kept")
        kernels[form] = sum(np.prod(t.dims) for t in onnx.load(str(kept)).graph.initializer if len(t.dims) == 4)
    assert kernels["typed"] == kernels["cpu"] < kernels["tensorrt"]
    for precision in ("fp16", "fp8"):
        of_all = {kept_model(model, spec, precision, frames, form=form, folder=tmp_path) for form in kernels}
        assert len(of_all) == 1


def test_tensorrt_for_rtx_builds_the_wide_detector(tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (extra: test)")
    spec, frames = read_model_spec(STREET), Calibration(pictures(STREET)[:1], "street")
    wide = kept_model(STREET, spec, "int8", frames, form="tensorrt", folder=tmp_path)
    plan, _ = build_plan(load_library("tensorrt_rtx"), wide, spec, ShapeProfile(1, 2, 2), BuildOptions())
    assert len(plan) > 100_000


# --- any network


@dataclass
class Drawn:
    """A random graph of whole numbers and scales that are powers of two: every sum is exact, in whatever order."""

    draw: Any
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)
    maps: dict[str, tuple[int, int]] = field(default_factory=lambda: {"image": (16, 8)})
    """Of each tensor: channels, and height and width."""
    kernels: dict[tuple[int, int], str] = field(default_factory=dict)

    def among(self, choices: Any) -> Any:
        return self.draw(st.sampled_from(list(choices)))

    def constant(self, values: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(values, f"constant{len(self.constants)}"))
        return self.constants[-1].name

    def add(self, op: str, inputs: list[str], made: tuple[int, int], **attributes: Any) -> str:
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        self.maps[name] = made
        return name

    def conv(self, tensor: str, wide: int, *, groups: int = 1, shared: bool = False) -> str:
        channels, side = self.maps[tensor]
        random = np.random.default_rng(len(self.nodes))
        weights = random.integers(-3, 4, (wide, channels // groups, 1, 1)).astype(np.float32)
        weights[:, 0] = 127  # so that each channel's scale is 2**-7
        kernel = self.kernels.get((channels, wide)) if shared else None
        kernel = kernel or self.constant(weights / 128)
        if groups == 1:
            self.kernels[channels, wide] = kernel
        bias = self.constant(random.integers(-8, 8, wide).astype(np.float32))
        return self.add("Conv", [tensor, kernel, bias], (wide, side), group=groups)

    def step(self) -> None:
        tensor = self.among(self.maps)
        channels, side = self.maps[tensor]
        wide, kinds = self.among((8, 12, 16, 24, 32, 40, 48, 64)), self.draw(st.integers(0, 15))
        beside = [name for name, (_, its) in self.maps.items() if its == side]
        alike = [name for name in beside if self.maps[name][0] == channels]
        if kinds <= 4:
            made = self.conv(tensor, wide, shared=kinds == 4)
            self.add(self.among(("Relu", "Sigmoid")), [made], self.maps[made])
        elif kinds == 5:
            self.conv(tensor, channels, groups=self.among((channels, 2 - channels % 2)))
        elif kinds == 6:
            self.add(self.among(("Relu", "Sigmoid", "LeakyRelu", "Abs")), [tensor], (channels, side))
        elif kinds == 7:
            self.add(self.among(("Add", "Mul")), [tensor, self.among(alike)], (channels, side))
        elif kinds <= 9:
            others = [self.among(beside) for _ in range(kinds - 7)]
            total = sum(self.maps[name][0] for name in (tensor, *others))
            self.add("Concat", [tensor, *others], (total, side), axis=self.among((1, -3)))
        elif kinds == 10:
            self.add("MaxPool", [tensor], (channels, side), kernel_shape=[3, 3], pads=[1] * 4)
        elif kinds == 11:
            self.resize(tensor)
        elif kinds <= 13:
            self.slice_or_split(tensor, split=kinds == 12)
        else:
            factors = np.arange(1, channels + 1, dtype=np.float32).reshape(1, -1, 1, 1)
            other = self.constant(factors if kinds == 14 else np.float32([2]))
            self.add("Mul", [tensor, other], (channels, side))

    def resize(self, tensor: str) -> None:
        channels, side = self.maps[tensor]
        if self.draw(st.booleans()):
            how = ["", self.constant(np.float32([1, 1, 0.5, 0.5]))]
        else:
            how = ["", "", self.constant(np.array([1, channels, side // 2, side // 2], np.int64))]
        nearest = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        if side > 2:
            self.add("Resize", [tensor, *how], (channels, side // 2), **nearest)

    def slice_or_split(self, tensor: str, *, split: bool) -> None:
        channels, side = self.maps[tensor]
        first = self.among((channels // 2, max(1, channels - 8), channels // 4 or 1))
        if not split:
            bounds = [self.constant(np.array([value], np.int64)) for value in (first - channels, 1 << 40, 1)]
            self.add("Slice", [tensor, *bounds], (channels - first, side))
        elif first < channels:
            names = [f"part{len(self.nodes)}_{number}" for number in range(2)]
            sizes = self.constant(np.array([first, channels - first], np.int64))
            self.nodes.append(helper.make_node("Split", [tensor, sizes], names, name=names[0], axis=1))
            self.maps.update(zip(names, ((first, side), (channels - first, side)), strict=True))

    def model(self) -> Any:
        """Return the typed form: all convolutions in eight bits but the depthwise ones and a few more."""
        last = self.conv(list(self.maps)[-1], 4)
        ends = {last, self.among(self.maps), self.among(self.maps)} - {"image"}
        outputs = [self.value(name) for name in sorted(ends)]
        graph = helper.make_graph(self.nodes, "drawn", [self.value("image")], outputs, self.constants)
        plain = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        plain = onnx.shape_inference.infer_shapes(plain, strict_mode=True)
        in_float = {node.name for node in self.nodes if node.op_type == "Conv" and self.draw(st.integers(0, 5)) == 0}
        return quantised(plain, dict.fromkeys(self.maps, (-127 / 4, 127 / 4)), in_float)

    def value(self, name: str) -> Any:
        channels, side = self.maps[name]
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, side, side])


@st.composite
def typed_graphs(draw: Any) -> Any:
    drawn = Drawn(draw)
    drawn.conv("image", drawn.among((16, 32, 40)))
    for _ in range(draw(st.integers(4, 14))):
        drawn.step()
    return drawn.model()


def test_any_network_gives_the_same_bits():
    """Sums of parts of other origin, joins with the image, shared weights, groups, operators not known, outputs."""
    image = np.random.default_rng(0).integers(-8, 8, (1, 16, 8, 8)).astype(np.float32)
    changed = []

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(typed_graphs())
    def holds(narrow: Any) -> None:
        wide = widened(narrow)
        changed.append(wide is not narrow)
        onnx.checker.check_model(wide, full_check=True)
        for before, after in zip(answers(narrow, {"image": image}), answers(wide, {"image": image}), strict=True):
            np.testing.assert_array_equal(before, after)

    holds()
    assert sum(changed) > len(changed) // 4
