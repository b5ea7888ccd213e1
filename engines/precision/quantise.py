"""Q/DQ nodes around the layers that gain from eight bits, in the two spellings that the runtimes want.

- *symmetric*: int8 with zero point 0, on the inputs and weights of convolutions and on both sides of residual sums.
  TensorRT accepts nothing else; a convolution with the activation behind it stays one kernel, and its result leaves in
  eight bits. Tensors that are joined, pooled or resized into each other share one range, so that these layers only move
  bytes: with two ranges TensorRT would convert every picture once more. This is what a typed int8 file holds, with the
  calibrated ranges beside it.
- *full*: uint8 with any zero point, around every layer of the body. ONNX Runtime on the CPU runs a convolution in eight
  bits only where its result is quantised as well, and its kernels (VNNI, AMX) are made for uint8 times int8: given the
  symmetric spelling it multiplies in float32, at half the pace of the fp32 model. ``for_cpu`` makes it from the typed
  file.

Weights are the same in both (int8, symmetric, one scale a channel), and so are the ranges of activations.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Set
from typing import Any, Literal

import numpy as np
import onnx
import onnx.version_converter
from onnx import TensorProto, helper, numpy_helper

from engines.errors import ModelError
from engines.precision.ranges import Ranges

_RANGES_KEY, _FLOAT_KEY = "onpace.ranges", "onpace.left_in_float"
_FP8_OPSET, _LARGEST_FP8 = 19, 448.0
_BODY_OPS = frozenset(
    {"Add", "AveragePool", "Clip", "Concat", "Conv", "GlobalAveragePool", "LeakyRelu", "MaxPool", "Mul", "Relu"}
    | {"Resize", "Sigmoid", "Split"}
)
_MOVING_OPS = frozenset({"Concat", "MaxPool", "Resize", "Slice", "Split"})
"""What only moves values about, or picks some of them."""


def quantised(model: Any, ranges: Ranges, stay_float: Set[str], *, stay_float_on_cpus: Set[str]) -> Any:
    """Return ``model`` (an onnx.ModelProto) in the symmetric spelling, but for the nodes named in ``stay_float``.

    ``stay_float_on_cpus`` is what stays float in the full spelling.
    """
    typed = _with_pairs(model, shared_ranges(model.graph, ranges), stay_float, "symmetric")
    stated = {entry.key: entry.value for entry in model.metadata_props}
    stated[_RANGES_KEY] = json.dumps({name: [float(f"{end:.7g}") for end in ends] for name, ends in ranges.items()})
    stated[_FLOAT_KEY] = json.dumps(sorted(stay_float_on_cpus))
    onnx.helper.set_model_props(typed, stated)
    return typed


def shared_ranges(graph: Any, ranges: Ranges) -> Ranges:
    """Return ``ranges`` where tensors that are only moved into each other have the widest of theirs."""
    leader: dict[str, str] = {}

    def lead(name: str) -> str:
        while leader.setdefault(name, name) != name:
            name = leader[name]
        return name

    for node in graph.node:
        if node.op_type in _MOVING_OPS:
            names = [name for name in (*node.input, *node.output) if name in ranges]
            for name in names[1:]:
                leader[lead(name)] = lead(names[0])
    widest: dict[str, tuple[float, float]] = {}
    for name, (low, high) in ranges.items():
        before = widest.get(lead(name), (low, high))
        widest[lead(name)] = (min(low, before[0]), max(high, before[1]))
    return {name: widest[lead(name)] for name in ranges}


def float_on_gpus(graph: Any, inner: Set[str], rim: Set[str]) -> frozenset[str]:
    """Return the nodes of ``graph`` that are not worth eight bits on a GPU, of those that could take them.

    ``inner`` layers could, and those at the ``rim``, its first and last. Depthwise convolutions are not worth it: they
    move bytes rather than multiply, and one scale for channels that are never summed costs them most: YOLOX-Nano loses
    27 points of AP with them in eight bits, 1 without. Nor is the rim of a network that has any, which is made to need
    little and loses 1.3 more. Elsewhere the rim is: in float it costs YOLOv8n some 0.4 of 2.6 ms (H100, TensorRT 8.6,
    batch 16), much of it rearranging, and saves no AP. An addition of a constant is no joint of two activations.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    depthwise = {node.name for node in graph.node if _is_depthwise(node, constants)}
    moved = {node.name for node in graph.node if node.op_type == "Add" and not constants.keys().isdisjoint(node.input)}
    worth = (inner if depthwise else inner | rim) - depthwise - moved
    return frozenset(node.name for node in graph.node) - worth


def _is_depthwise(node: Any, constants: Mapping[str, Any]) -> bool:
    if node.op_type != "Conv" or node.input[1] not in constants:
        return False
    groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    return bool(groups > 1 and constants[node.input[1]].dims[1] == 1)


def is_symmetric(model: Any) -> bool:
    """Whether ``model`` (an onnx.ModelProto) is what ``quantised`` returns."""
    return any(entry.key == _RANGES_KEY for entry in model.metadata_props)


def in_eight_bit_floats(typed: Any) -> Any:
    """Return what ``quantised`` returned with E4M3 floats in the integers' place, which TensorRT 10 and later takes.

    The same nodes at the same places; a scale leads the largest value to 448, the largest that E4M3 holds, in place of
    127 (Micikevicius et al., arXiv:2209.05433).
    """
    model = onnx.version_converter.convert_version(typed, max(_FP8_OPSET, typed.opset_import[0].version))
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    around = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    for name in {node.input[1] for node in around}:
        scale = numpy_helper.to_array(constants[name]) * np.float32(127 / _LARGEST_FP8)
        constants[name].CopyFrom(numpy_helper.from_array(scale.astype(np.float32), name))
    for name in {node.input[2] for node in around}:
        shape = tuple(constants[name].dims)
        zeros = helper.make_tensor(name, TensorProto.FLOAT8E4M3FN, shape, bytes(math.prod(shape)), raw=True)
        constants[name].CopyFrom(zeros)
    del model.graph.value_info[:]  # types of before
    kept = {entry.key: entry.value for entry in typed.metadata_props if entry.key not in (_RANGES_KEY, _FLOAT_KEY)}
    helper.set_model_props(model, kept)
    return model


def for_cpu(typed: Any) -> Any:
    """Return the full spelling of what ``quantised`` returned. Raises ModelError for any other model."""
    stated = {entry.key: entry.value for entry in typed.metadata_props}
    if _RANGES_KEY not in stated:
        raise ModelError("no calibrated ranges in it: it is not an int8 model made here")
    ranges = {name: (low, high) for name, (low, high) in json.loads(stated.pop(_RANGES_KEY)).items()}
    stay_float = frozenset(json.loads(stated.pop(_FLOAT_KEY)))
    plain = without_pairs(typed)
    full = _with_pairs(plain, ranges, stay_float, "full")
    onnx.helper.set_model_props(full, stated)
    return full


def without_pairs(model: Any) -> Any:
    """Return ``model`` without its Q/DQ pairs: the float graph that they were put around."""
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    quantizers = {node.output[0]: node.input[0] for node in plain.graph.node if node.op_type == "QuantizeLinear"}
    before = {
        node.output[0]: quantizers[node.input[0]]
        for node in plain.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in quantizers
    }
    kept = [node for node in plain.graph.node if node.op_type not in ("QuantizeLinear", "DequantizeLinear")]
    for node in kept:
        for place, name in enumerate(node.input):
            node.input[place] = before.get(name, name)
    del plain.graph.node[:]
    plain.graph.node.extend(kept)
    used = {name for node in kept for name in node.input}
    constants = [tensor for tensor in plain.graph.initializer if tensor.name in used]
    del plain.graph.initializer[:]
    plain.graph.initializer.extend(constants)
    return plain


def _with_pairs(model: Any, ranges: Ranges, stay_float: Set[str], spelling: Literal["symmetric", "full"]) -> Any:
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    symmetric = spelling == "symmetric"
    options: dict[str, object] = {"WeightSymmetric": True, "ActivationSymmetric": symmetric}
    if symmetric:
        options.update(AddQDQPairToWeight=True, QuantizeBias=False, OpTypesToExcludeOutputQuantization=["Conv"])
    pairs = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    quantizer = QDQQuantizer(
        copy,
        True,  # per channel
        False,  # reduced range: for processors without VNNI only, whose sums would saturate
        QuantType.QInt8,
        QuantType.QInt8 if symmetric else QuantType.QUInt8,
        TensorsData(CalibrationMethod.MinMax, pairs),
        [],
        list(stay_float),
        ["Add", "Conv"] if symmetric else sorted(_BODY_OPS),
        options,
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()  # it adds its nodes at the end
    return quantizer.model.model
