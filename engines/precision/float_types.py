"""Retypes a float32 graph to half precision, layer by layer, with a cast only where two types meet."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engines.errors import ModelError

LOW_TYPES: dict[str, int] = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
_SCHEMA_NAMES: dict[int, str] = {TensorProto.FLOAT16: "tensor(float16)", TensorProto.BFLOAT16: "tensor(bfloat16)"}
_LARGEST: dict[int, float] = {
    TensorProto.FLOAT16: float(np.finfo(np.float16).max),
    TensorProto.BFLOAT16: float(np.finfo(np.float32).max),
}


def retype(model: Any, low: int, stay_float: Set[str], low_inputs: Set[str]) -> Any:
    """Return ``model`` with its float32 layers in ``low`` (a ``LOW_TYPES`` value), but for the nodes of ``stay_float``.

    Also in float32 stay operators that know no other float type, layers with a constant that ``low`` cannot hold, and
    inputs and outputs but for the inputs of ``low_inputs``. Every node must have a name and every tensor a known type
    (``prepared``). The model itself is not changed.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _Retyping(copy, low, stay_float).run(low_inputs)
    return copy


class _Retyping:
    def __init__(self, model: Any, low: int, stay_float: Set[str]) -> None:
        self._model = model
        self._graph = model.graph
        self._low = low
        self._stay_float = stay_float
        self._opsets = {entry.domain: entry.version for entry in model.opset_import}
        self._constants = {tensor.name: tensor for tensor in self._graph.initializer}
        self._floats = _float_tensors(self._graph)
        self._now: dict[str, int] = {}  # float tensor -> its type in the new graph
        self._casts: dict[tuple[str, int], str] = {}
        self._nodes: list[Any] = []

    def run(self, low_inputs: Set[str]) -> None:
        """Rewrite the graph in place."""
        for value in self._graph.input:
            if value.name in self._floats and value.name not in self._constants:
                kind = self._low if value.name in low_inputs else TensorProto.FLOAT
                value.type.tensor_type.elem_type = self._now[value.name] = kind
        outputs = {value.name for value in self._graph.output if value.name in self._floats}
        for node in list(self._graph.node):
            self._retype_node(node)
        for value in self._graph.output:
            if value.name in outputs:
                self._end_in_float(value.name)
        used = {name for node in self._nodes for name in node.input} | {value.name for value in self._graph.output}
        kept = [tensor for tensor in self._graph.initializer if tensor.name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        del self._graph.value_info[:]  # types of before

    def _retype_node(self, node: Any) -> None:
        kinds = self._kinds(node)
        to_float = next((attr for attr in node.attribute if attr.name == "to" and attr.i == TensorProto.FLOAT), None)
        becomes_low = node.name not in self._stay_float
        if node.op_type == "Cast":
            if to_float is not None and becomes_low:
                to_float.i = self._low
            for name in node.output:
                if name in self._floats:
                    self._now[name] = self._low if becomes_low else TensorProto.FLOAT
            self._nodes.append(node)  # takes any type
            return
        # A type variable of the operator's schema is low as a whole, or not at all.
        low_kinds = kinds if becomes_low and self._constants_fit(node) else {}
        for place, name in enumerate(node.input):
            if name in self._floats:
                wanted = self._low if self._kind(node, place, node.input) in low_kinds else TensorProto.FLOAT
                node.input[place] = self._as(name, wanted)
        self._nodes.append(node)
        for place, name in enumerate(node.output):
            if name in self._floats:
                is_low = self._kind(node, place, node.output, outputs=True) in low_kinds
                self._now[name] = self._low if is_low else TensorProto.FLOAT

    def _kinds(self, node: Any) -> dict[str, bool]:
        """Return the type variables of the node's float inputs that may be ``low``."""
        schema = self._schema(node)
        if schema is None:
            return {}
        allowed = {
            constraint.type_param_str: _SCHEMA_NAMES[self._low] in constraint.allowed_type_strs
            for constraint in schema.type_constraints
        }
        seen = {self._kind(node, place, node.input) for place, name in enumerate(node.input) if name in self._floats}
        return {kind: True for kind in seen if allowed.get(kind, False)}

    def _kind(self, node: Any, place: int, names: Any, *, outputs: bool = False) -> str:
        """Return the schema's type variable, or fixed type, of the node's input or output number ``place``."""
        schema = self._schema(node)
        if schema is None:
            return ""
        formal = schema.outputs if outputs else schema.inputs
        return str(formal[min(place, len(formal) - 1)].type_str)

    def _schema(self, node: Any) -> Any:
        version = self._opsets.get(node.domain, 1)
        return (
            onnx.defs.get_schema(node.op_type, version, node.domain)
            if onnx.defs.has(node.op_type, node.domain)
            else None
        )

    def _constants_fit(self, node: Any) -> bool:
        for name in node.input:
            tensor = self._constants.get(name)
            if tensor is not None and name in self._floats:
                values = numpy_helper.to_array(tensor)
                finite = values[np.isfinite(values)]
                if finite.size and float(np.abs(finite).max()) > _LARGEST[self._low]:
                    return False
        return True

    def _as(self, name: str, wanted: int) -> str:
        """Return the name of ``name`` as type ``wanted``, converting the constant or adding a cast."""
        now = TensorProto.FLOAT if name in self._constants else self._now[name]
        if now == wanted:
            return name
        if (name, wanted) not in self._casts:
            fresh = f"{name}_{'float' if wanted == TensorProto.FLOAT else 'low'}"
            if name in self._constants:
                self._graph.initializer.append(_converted(self._constants[name], fresh, wanted))
            else:
                self._nodes.append(helper.make_node("Cast", [name], [fresh], name=f"{fresh}_cast", to=wanted))
            self._casts[name, wanted] = fresh
        return self._casts[name, wanted]

    def _end_in_float(self, name: str) -> None:
        """Make the output ``name`` float32: what makes it so far gets another name."""
        if self._now.get(name, TensorProto.FLOAT) == TensorProto.FLOAT:
            return
        before = f"{name}_before_cast"
        for node in self._nodes:
            for names in (node.input, node.output):
                for place, used in enumerate(names):
                    if used == name:
                        names[place] = before
        self._nodes.append(helper.make_node("Cast", [before], [name], name=f"{name}_cast", to=TensorProto.FLOAT))


def _float_tensors(graph: Any) -> frozenset[str]:
    values = [*graph.input, *graph.value_info, *graph.output]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    types.update({tensor.name: tensor.data_type for tensor in graph.initializer})
    unknown = sorted({node.op_type for node in graph.node for name in node.output if name and not types.get(name, 0)})
    if unknown:
        raise ModelError(f"the types behind these operators cannot be known: {', '.join(unknown)}")
    return frozenset(name for name, kind in types.items() if kind == TensorProto.FLOAT)


def _converted(tensor: Any, name: str, wanted: int) -> Any:
    values = numpy_helper.to_array(tensor).astype(np.float32)
    dtype = helper.tensor_dtype_to_np_dtype(wanted)
    return numpy_helper.from_array(values.astype(dtype), name)
