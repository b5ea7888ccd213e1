"""Checks an fp32 detector and readies it for retyping: names, constants, types of every tensor, a usable opset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import onnx.version_converter
from onnx import TensorProto

from engines.errors import ModelError
from engines.model_file import read_model_file, tensors_of

if TYPE_CHECKING:
    from engines.precision.typed_model import Precision

QUANTISED_OPS = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "QLinearConv"}
    | {"QLinearMatMul"}
)
_CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})
_LEAST_OPSET, _OPSET = 13, 17
"""Models older than the first are lifted to the second: scales per channel came with 13, and TensorRT 8.6 reads up to
17."""
BF16_OPSET = 22
"""The first in which convolutions know bfloat16."""


def prepared(model: Path, least_opset: int = _LEAST_OPSET) -> Any:
    """Return the onnx.ModelProto of an fp32 detector, its weights inside, ready to be retyped.

    Raises ModelError for a model that is fp16 or int8 already, and for operators that are not part of ONNX.
    """
    file = read_model_file(model)
    proto = onnx.load(str(model)) if _has_external_weights(file.proto) else file.proto
    refuse_typed(model, proto)
    _refuse_operators(model, proto)
    opset = next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), 1)
    lifted = max(opset, least_opset, _OPSET)
    try:
        if opset < least_opset:
            proto = onnx.version_converter.convert_version(proto, lifted)
        _name_nodes(proto.graph)
        _constants_to_initializers(proto.graph)
        # Merging stated with inferred shapes can contradict what exporters wrote; only the types are needed.
        return onnx.shape_inference.infer_shapes(proto)
    except Exception as error:  # onnx raises RuntimeError, ValueError and its own
        raise ModelError(
            f"model {model}: cannot be brought from opset {opset} to {lifted} with every type known: "
            f"{str(error).splitlines()[0][:300]}. Export it again with opset {lifted}."
        ) from error


def _has_external_weights(proto: Any) -> bool:
    return any(tensor.data_location == tensor.EXTERNAL for tensor in tensors_of(proto.graph))


def file_precision(model: Path) -> Precision:
    """Return the precision that a file is in as it is: fp32, unless it was typed already. Raises ModelError."""
    return _precision_of(read_model_file(model).proto)


def refuse_typed(model: Path, proto: Any = None) -> None:
    """Raise ModelError for a model that is fp16 or quantised already. ``proto``: its content, where that was read."""
    proto = read_model_file(model).proto if proto is None else proto
    precision = _precision_of(proto)
    if precision == "fp32":
        return
    quantised = sorted({node.op_type for node in proto.graph.node} & QUANTISED_OPS)
    already = f"quantised already ({', '.join(quantised)})" if quantised else f"{precision} already"
    raise ModelError(
        f"model {model}: is {already}. Give the fp32 model it was made from, or run it as it is, without a precision."
    )


def _precision_of(proto: Any) -> Precision:
    if any(node.op_type in QUANTISED_OPS for node in proto.graph.node):
        eight_bit_floats = {TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2}
        return "fp8" if any(tensor.data_type in eight_bit_floats for tensor in tensors_of(proto.graph)) else "int8"
    types = [tensor.data_type for tensor in proto.graph.initializer if len(tensor.dims) > 1]
    types += [value.type.tensor_type.elem_type for value in proto.graph.input]
    if TensorProto.FLOAT16 in types:
        return "fp16"
    return "bf16" if TensorProto.BFLOAT16 in types else "fp32"


def _refuse_operators(model: Path, proto: Any) -> None:
    foreign = sorted({f"{node.domain or 'ai.onnx'}:{node.op_type}" for node in proto.graph.node if not _is_known(node)})
    if foreign:
        raise ModelError(
            f"model {model}: uses operators that are not part of ONNX ({', '.join(foreign[:5])}), whose types cannot "
            "be changed. Export it without plugins, or run it without a precision."
        )
    branching = sorted({node.op_type for node in proto.graph.node} & _CONTROL_FLOW)
    if branching:
        raise ModelError(
            f"model {model}: uses {', '.join(branching)}, whose bodies cannot be retyped. Export it without control "
            "flow (a fixed input size often does that), or run it without a precision."
        )


def _is_known(node: Any) -> bool:
    return bool(onnx.defs.has(node.op_type, node.domain))


def _name_nodes(graph: Any) -> None:
    """Give every node a name of its own."""
    taken: set[str] = set()
    for number, node in enumerate(graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{number}_"
        taken.add(node.name)


def _constants_to_initializers(graph: Any) -> None:
    kept = []
    for node in graph.node:
        value = next((attr.t for attr in node.attribute if attr.name == "value"), None)
        if node.op_type == "Constant" and value is not None:
            tensor = graph.initializer.add()
            tensor.CopyFrom(value)
            tensor.name = node.output[0]
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)
