"""What the structure of a graph gives away: whether boxes are decoded, how pixels enter, what body is behind them."""

from __future__ import annotations

from math import prod
from typing import Any

from numpy.typing import NDArray
from onnx import numpy_helper

_LAYOUT_OPS = frozenset(
    {"Transpose", "Reshape", "Concat", "Cast", "Identity", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split"}
    | {"Gather", "QuantizeLinear", "DequantizeLinear", "Dropout"}
)
"""Operators that move or retype numbers without changing what they mean."""


class GraphTrace:
    """Answers questions about a graph's wiring. Built once per model."""

    def __init__(self, graph: Any) -> None:
        self._made_by = {name: node for node in graph.node for name in node.output}
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        self._nodes = graph.node
        self.op_types = frozenset(node.op_type for node in graph.node)

    def makers(self, output: str) -> frozenset[str]:
        """Return the operators that make the numbers of ``output``, looking through those that only move them."""
        found: set[str] = set()
        pending, visited = [output], {output}
        while pending:
            node = self._made_by.get(pending.pop())
            if node is None or node.op_type == "Constant":
                continue
            if node.op_type not in _LAYOUT_OPS:
                found.add(node.op_type)
                continue
            # Only the first input of these carries data; the rest are shapes and indices. Concat joins data.
            inputs = node.input if node.op_type == "Concat" else node.input[:1]
            fresh = [name for name in inputs if name and name not in visited]
            visited.update(fresh)
            pending.extend(fresh)
        return frozenset(found)

    def decodes_boxes(self, output: str, candidates: int | None) -> bool:
        """Whether the graph itself turns grid offsets into boxes: ``exp`` of sizes, or arithmetic with a grid."""
        pending, visited, steps = [output], {output}, 0
        while pending and steps < 60:
            node = self._made_by.get(pending.pop())
            if node is None or node.op_type in ("Conv", "Gemm", "MatMul", "ConvInteger", "Sigmoid", "Softmax"):
                continue
            steps += 1
            if node.op_type == "Exp":
                return True
            if node.op_type in ("Add", "Sub", "Mul") and any(self._spans(name, candidates) for name in node.input):
                return True
            fresh = [name for name in node.input if name and name not in visited]
            visited.update(fresh)
            pending.extend(fresh)
        return False

    def channels_behind(self, output: str) -> frozenset[int]:
        """Return how many channels the last convolutions before ``output`` have: 1 for objectness, one a class, ..."""
        found: set[int] = set()
        pending, visited = [output], {output}
        while pending:
            node = self._made_by.get(pending.pop())
            if node is None:
                continue
            if node.op_type == "Conv":
                kernel = self._constant_tensor(node.input[1])
                found.update([int(kernel.dims[0])] if kernel is not None else [])
                continue
            fresh = [name for name in node.input if name and name not in visited]
            visited.update(fresh)
            pending.extend(fresh)
        return frozenset(found)

    def has_yolox_body(self, image_input: str) -> bool:
        """Whether this is YOLOX, whatever its outputs are.

        Like early YOLOv5 it first slices the picture into its four pixel phases; unlike it, sizes are ``exp``.
        """
        sliced = [node for node in self._nodes if node.op_type == "Slice" and image_input in node.input]
        return len(sliced) in (2, 4) and "Exp" in self.op_types

    def input_divisor(self, image_input: str) -> float | None:
        """Return what the graph itself first divides the picture by (255 means it takes 0-255), else None."""
        names = {image_input}
        for node in self._nodes:
            if not names.intersection(node.input[:1]):
                continue
            if node.op_type in ("Cast", "Identity", "Transpose"):
                names.update(node.output)
            elif node.op_type in ("Div", "Mul") and len(node.input) == 2:
                factor = self._constant(node.input[1])
                if factor is None or factor.size != 1 or not float(factor.reshape(())):
                    return None
                value = float(factor.reshape(()))
                return value if node.op_type == "Div" else 1 / value
            else:
                return None
        return None

    def _spans(self, name: str, candidates: int | None) -> bool:
        """Whether ``name`` is a constant with one to four numbers for every candidate: a grid, strides or anchors."""
        tensor = self._constant_tensor(name)
        if tensor is None or candidates is None or candidates not in tensor.dims:
            return False
        return prod(int(length) for length in tensor.dims) <= 4 * candidates

    def _constant(self, name: str) -> NDArray[Any] | None:
        """Return a small constant's value; None for what is not constant, or not in the file."""
        tensor = self._constant_tensor(name)
        if tensor is None or tensor.data_location == tensor.EXTERNAL:
            return None
        value: NDArray[Any] = numpy_helper.to_array(tensor)
        return value

    def _constant_tensor(self, name: str) -> Any:
        tensor = self._initializers.get(name)
        if tensor is None:
            node = self._made_by.get(name)
            if node is not None and node.op_type == "Constant" and node.attribute[0].HasField("t"):
                tensor = node.attribute[0].t
        return tensor
