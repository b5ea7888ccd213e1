"""fp16 and int8 models: what is in them, how close their answers are, what is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.cpu_runtime import CpuRuntime
from engines.errors import ModelError
from engines.inspect_model import read_model_spec
from engines.precision.kept import kept_model
from engines.precision.layers import find_layers
from engines.precision.prepare import prepared
from engines.precision.quantise import without_pairs
from engines.precision.ranges import _Entropy
from engines.precision.typed_model import Calibration, cpu_model, spec_of_typed, typed_model
from engines.runtime import RuntimeOptions
from tests.helpers.conv_onnx import SIZE, conv_detector
from tests.helpers.family_onnx import LAYOUTS, planted_family
from tests.helpers.tiny_onnx import PlantedBox
from tests.helpers.yolo_onnx import yolo_detector

OUTER = {"first", "head8", "head16", "head32"}
INNER = {"depthwise", "wide", "neck8", "down16", "neck16", "down32", "neck32"}


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def model(tmp_path) -> Path:
    return conv_detector(tmp_path / "conv.onnx")


def pictures(count: int = 4, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.random((1, 3, SIZE, SIZE), dtype=np.float32) for _ in range(count)]


def calibration(**changes: Any) -> Calibration:
    return Calibration(**{"tensors": pictures(), "digest": "some", **changes})


def typed(model: Path, precision: str, frames: Calibration | None = None) -> Path:
    out = model.with_name(f"{precision}.onnx")
    return typed_model(model, read_model_spec(model), precision, frames, out).path  # type: ignore[arg-type]


def answer(model: Path, picture: np.ndarray, options: Any = None) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    half = session.get_inputs()[0].type == "tensor(float16)"
    return session.run(None, {"images": picture.astype(np.float16) if half else picture})[0]


def convolutions(model: Path) -> dict[str, Any]:
    return {node.name: node for node in onnx.load(str(model)).graph.node if node.op_type == "Conv"}


# --- fp16


@pytest.mark.parametrize("layout", LAYOUTS)
def test_fp16_of_every_family_finds_the_same_boxes(tmp_path, layout):
    boxes = [PlantedBox((30, 40, 110, 130), 3, 0.9), PlantedBox((150, 60, 250, 200), 7, 0.7)]
    model = planted_family(tmp_path / "planted.onnx", layout, boxes)
    spec, low = read_model_spec(model), typed(model, "fp16")
    assert read_model_spec(low).family == spec.family
    assert read_model_spec(low).image_input.dtype == spec_of_typed(spec, "fp16").image_input.dtype == "float16"
    with (
        CpuRuntime(model, spec, RuntimeOptions(threads=1)) as before,
        CpuRuntime(low, spec_of_typed(spec, "fp16"), RuntimeOptions(threads=1)) as after,
    ):
        expected, found = before.slots[0].run(1), after.slots[0].run(1)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert np.abs(found[name] - array).max() <= 0.25  # pixels: fp16 counts in steps of 0.25 from 256 to 512


def test_fp16_takes_pictures_in_half_precision_and_keeps_outputs_and_the_heads_arithmetic_in_float(model):
    low = onnx.load(str(typed(model, "fp16")))
    assert {value.type.tensor_type.elem_type for value in low.graph.input} == {TensorProto.FLOAT16}
    assert {value.type.tensor_type.elem_type for value in low.graph.output} == {TensorProto.FLOAT}
    weights = {tensor.name: tensor.data_type for tensor in low.graph.initializer}
    convs = [node for node in low.graph.node if node.op_type == "Conv"]
    assert {weights[node.input[1]] for node in convs} == {TensorProto.FLOAT16}
    # One cast for each head's answer out: nothing in between changes type and back.
    assert Counter(node.op_type for node in low.graph.node)["Cast"] == 3
    onnx.checker.check_model(low, full_check=True)


def test_fp16_answers_agree_to_half_a_pixel(model):
    (picture,) = pictures(1, seed=9)
    expected, found = answer(model, picture), answer(typed(model, "fp16"), picture)
    assert np.abs(found - expected)[:, :4].max() < 0.5
    assert np.abs(found - expected)[:, 4:].max() < 0.01


def test_a_layer_whose_constant_is_beyond_fp16_stays_float(model):
    proto = onnx.load(str(model))
    wide = next(node for node in proto.graph.node if node.name == "wide")
    weights = next(tensor for tensor in proto.graph.initializer if tensor.name == wide.input[1])
    values = numpy_helper.to_array(weights).copy()
    values[0, 0, 0, 0] = 1e6
    weights.CopyFrom(numpy_helper.from_array(values, weights.name))
    onnx.save(proto, str(model))
    low = onnx.load(str(typed(model, "fp16")))
    wide = next(node for node in low.graph.node if node.name == "wide")
    kinds = {tensor.name: tensor.data_type for tensor in low.graph.initializer}
    assert kinds[wide.input[1]] == TensorProto.FLOAT


def test_bf16_holds_its_weights_and_is_valid_onnx(model):
    low = onnx.load(str(typed(model, "bf16")))
    kinds = {tensor.name: tensor.data_type for tensor in low.graph.initializer}
    assert {kinds[node.input[1]] for node in low.graph.node if node.op_type == "Conv"} == {TensorProto.BFLOAT16}
    assert low.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT  # NumPy has no bfloat16
    onnx.checker.check_model(low, full_check=True)


# --- int8


def test_int8_is_what_tensorrt_takes(model):
    """Symmetric, zero point 0, one scale a channel for weights, on the inputs of inner convolutions with sums."""
    eight = onnx.load(str(typed(model, "int8", calibration())))
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in eight.graph.initializer}
    makers = {name: node for node in eight.graph.node for name in node.output}
    quantizers = [node for node in eight.graph.node if node.op_type == "QuantizeLinear"]
    assert all(constants[node.input[2]].dtype == np.int8 and not constants[node.input[2]].any() for node in quantizers)
    for node in eight.graph.node:
        if node.op_type == "Conv":
            fed = {makers[name].op_type for name in node.input[:2] if name in makers} & {"DequantizeLinear"}
            assert bool(fed) == (node.name in INNER - {"depthwise"}), node.name
    wide = next(node for node in eight.graph.node if node.name == "wide")
    assert constants[makers[wide.input[1]].input[1]].shape == (32,)
    onnx.checker.check_model(eight, full_check=True)


def test_joined_and_summed_tensors_meet_in_eight_bits_of_one_scale(tmp_path):
    """So that TensorRT runs joins, pools and sums in eight bits too, without converting pictures in between."""
    whole = yolo_detector(tmp_path / "tiny.onnx", width=0.0625, size=(96, 64))
    frames = calibration(tensors=[np.random.default_rng(0).random((1, 3, 64, 96), np.float32)])
    eight = onnx.load(str(typed(whole, "int8", frames)))
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in eight.graph.initializer}
    makers = {name: node for node in eight.graph.node for name in node.output}
    quantised = {
        node.input[0]: constants[node.input[1]] for node in eight.graph.node if node.op_type == "QuantizeLinear"
    }

    def scale_of(name: str) -> float | None:
        maker = makers.get(name)
        return float(constants[maker.input[1]]) if maker is not None and maker.op_type == "DequantizeLinear" else None

    joins = [node for node in eight.graph.node if node.op_type == "Concat" and node.output[0] in quantised]
    assert len(joins) > 10
    for join in joins:
        scales = {scale_of(name) for name in join.input} - {None}
        assert scales <= {float(quantised[join.output[0]])}
    sums = [node for node in eight.graph.node if node.op_type == "Add" and node.output[0] in quantised]
    assert len(sums) == 6  # of the shortcuts of four blocks
    assert all(scale_of(name) for node in sums for name in node.input)


def test_first_and_last_layers_take_eight_bits_on_gpus_where_nothing_is_depthwise(tmp_path):
    """On a GPU float between eight bits costs more than it is worth; a CPU runs these layers in float all the same."""
    whole = yolo_detector(tmp_path / "tiny.onnx", width=0.0625, size=(96, 64))
    frames = calibration(tensors=[np.random.default_rng(0).random((1, 3, 64, 96), np.float32)])
    eight = onnx.load(str(typed(whole, "int8", frames)))
    layers = find_layers(prepared(whole).graph)
    for_cpu = onnx.load(str(cpu_model(whole.with_name("int8.onnx"), tmp_path / "cpu.onnx")))
    assert len(layers.first | layers.last) == 1 + 6
    assert _in_eight_bits(eight) - _in_eight_bits(for_cpu) == layers.first | layers.last


def test_the_arithmetic_behind_layers_in_eight_bits_is_known(tmp_path):
    """TensorRT 8.6 is told to keep it in float32."""
    whole = yolo_detector(tmp_path / "tiny.onnx", width=0.0625, size=(96, 64))
    frames = calibration(tensors=[np.random.default_rng(0).random((1, 3, 64, 96), np.float32)])
    eight = onnx.shape_inference.infer_shapes(onnx.load(str(typed(whole, "int8", frames))))
    assert find_layers(eight.graph).tail == find_layers(prepared(whole).graph).tail != frozenset()


def _in_eight_bits(model: Any) -> set[str]:
    """Return the convolutions whose weights come in eight bits."""
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    convolutions = (node for node in model.graph.node if node.op_type == "Conv")
    return {node.name for node in convolutions if makers.get(node.input[1]) == "DequantizeLinear"}


def test_both_spellings_hold_the_same_network(model, tmp_path):
    eight = typed(model, "int8", calibration())
    plain = without_pairs(onnx.load(str(eight)))
    onnx.save(plain, str(tmp_path / "plain.onnx"))
    (picture,) = pictures(1, seed=9)
    np.testing.assert_array_equal(answer(tmp_path / "plain.onnx", picture), answer(model, picture))
    stated = {entry.key for entry in plain.metadata_props}
    for_cpu = cpu_model(eight, tmp_path / "cpu.onnx")
    assert "names" in stated  # the exporter's facts survive
    assert read_model_spec(for_cpu).class_names == read_model_spec(model).class_names


def test_the_cpu_multiplies_inner_convolutions_in_eight_bits_and_no_other(model, tmp_path):
    for_cpu = cpu_model(typed(model, "int8", calibration()), tmp_path / "cpu.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(
        str(for_cpu), options, providers=["CPUExecutionProvider"], disabled_optimizers=["WeightBiasQuantization"]
    )
    done = Counter(node.op_type for node in onnx.load(str(tmp_path / "optimised.onnx")).graph.node)
    assert done["QLinearConv"] == len(INNER)
    assert done["Conv"] + done["FusedConv"] == len(OUTER)


def test_what_comes_before_the_first_convolution_stays_as_it_is(model, tmp_path):
    """Slices and joins of the picture (Focus) are united with that convolution, which 8-bit steps between forbid."""
    for_cpu = onnx.load(str(cpu_model(typed(model, "int8", calibration()), tmp_path / "cpu.onnx")))
    makers = {name: node for node in for_cpu.graph.node for name in node.output}
    first = next(node for node in for_cpu.graph.node if node.name == "first")
    join = makers[first.input[0]]
    assert (join.op_type, list(join.input)) == ("Concat", ["images", "images"])


def test_the_runtime_gives_what_the_int8_model_says(model):
    """ONNX Runtime would quantise the first convolution as well, with one scale for all of its channels."""
    spec, frames = read_model_spec(model), calibration()
    options = RuntimeOptions(threads=1, precision="int8", calibration=frames)
    for_cpu = kept_model(model, spec, "int8", frames, form="cpu")
    literally = onnxruntime.SessionOptions()
    literally.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    with CpuRuntime(model, spec, options) as runtime:
        assert runtime.file == for_cpu
        for picture in pictures(4, seed=9):
            runtime.slots[0].input[:] = picture
            found = runtime.slots[0].run(1)["output0"]
            expected = answer(for_cpu, picture, literally)
            assert np.abs(found - expected).mean() < 0.2 * np.abs(answer(model, picture) - expected).mean()


@pytest.mark.parametrize("method", ["percentile", "entropy", "minmax"])
def test_int8_answers_are_close(model, tmp_path, method):
    for_cpu = cpu_model(typed(model, "int8", calibration(method=method)), tmp_path / "cpu.onnx")
    (picture,) = pictures(1, seed=9)
    expected, found = answer(model, picture), answer(for_cpu, picture)
    assert np.abs(found - expected)[:, :4].mean() < 0.05 * expected[:, :4].std() + 0.5
    assert np.abs(found - expected)[:, 4:].mean() < 0.05


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        (np.concatenate([np.zeros(9000), np.linspace(1, 6, 1000)]), 0, 6),  # nothing between zeros and the rest
        (np.linspace(0.3, 0.9, 5000), 0.3, 0.9),
        (np.full(100, 2.0), 2, 2),
        (np.zeros(100), 0, 0),
        (np.append(np.abs(np.random.default_rng(3).normal(0, 1, 20000)), 40.0), 0, 6),  # one far off is cut
    ],
)
def test_entropy_cuts_what_is_far_off_and_keeps_the_rest(values, low, high):
    collector = _Entropy()
    for part in np.array_split(np.float32(values), 3):
        collector.add({"t": part})
    ((found_low, found_high),) = collector.ranges(widest=False).values()
    assert found_low == pytest.approx(low, abs=0.01)
    assert found_low <= found_high
    assert 0.5 * high <= found_high <= 1.01 * high


def test_a_model_of_an_old_opset_is_lifted(tmp_path):
    model = conv_detector(tmp_path / "old.onnx", opset=11)
    assert typed(model, "int8", calibration()).is_file()
    assert typed(model, "fp16").is_file()


# --- refusals


def test_int8_without_calibration_is_refused(model):
    with pytest.raises(ModelError, match=r"conv\.onnx: cannot be made int8: .*--calibration"):
        typed(model, "int8")


def test_calibration_without_pictures_is_refused(model):
    with pytest.raises(ModelError, match="no pictures"):
        typed(model, "int8", calibration(tensors=[]))


def test_calibration_that_is_no_number_is_refused(model):
    broken = pictures(1)
    broken[0][0, 0, 0, 0] = np.nan
    with pytest.raises(ModelError, match="not a number in picture 1"):
        typed(model, "int8", calibration(tensors=broken))


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("fp16", "int8", "is fp16 already"),
        ("int8", "fp16", "is quantised already"),
        ("fp16", "fp16", "is fp16 already"),
    ],
)
def test_a_model_that_is_typed_already_is_refused(model, first, second, said):
    done = typed(model, first, calibration()).rename(model.with_name("done.onnx"))
    with pytest.raises(ModelError, match=said):
        typed(done, second, calibration())


def test_operators_that_are_not_onnx_are_refused(model):
    proto = onnx.load(str(model))
    proto.graph.node[1].domain, proto.graph.node[1].op_type = "my.plugins", "Swirl"
    proto.opset_import.append(helper.make_opsetid("my.plugins", 1))
    onnx.save(proto, str(model))
    with pytest.raises(ModelError, match=r"not part of ONNX \(my\.plugins:Swirl\)"):
        typed_model(model, None, "fp16", None, model.with_name("out.onnx"))  # type: ignore[arg-type]


def test_a_model_without_inner_convolutions_is_not_made_int8(tmp_path):
    model = planted_family(tmp_path / "planted.onnx", "yolov8", [])
    with pytest.raises(ModelError, match="no convolutions"):
        typed(model, "int8", calibration())


def test_the_cpu_form_of_another_model_is_refused(model, tmp_path):
    with pytest.raises(ModelError, match="not an int8 model made here"):
        cpu_model(model, tmp_path / "cpu.onnx")


def test_a_file_that_fixes_a_batch_of_four_is_calibrated_with_single_pictures(tmp_path):
    proto = onnx.load(str(conv_detector(tmp_path / "any.onnx", dynamic_batch=True)))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(proto, str(tmp_path / "four.onnx"))
    found = answer(typed(tmp_path / "four.onnx", "int8", calibration()), np.repeat(pictures()[0], 4, axis=0))
    assert found.shape[0] == 4


def test_a_model_that_onnx_runtime_cannot_load_is_a_model_error(model, tmp_path):
    proto = onnx.load(str(model))
    proto.graph.output[0].name = "nobody makes it"
    onnx.save(proto, str(tmp_path / "broken.onnx"))
    with pytest.raises(ModelError, match="ONNX Runtime cannot load the model"):
        typed_model(tmp_path / "broken.onnx", read_model_spec(model), "int8", calibration(), tmp_path / "out.onnx")
