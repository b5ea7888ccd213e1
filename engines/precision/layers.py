"""Which part of a detector is what: the learned body, its first and last layers, and the arithmetic behind them.

The tail, everything behind the last learned layers, decodes boxes from offsets, distributions and grids, and takes
scores through their sigmoid. It costs next to nothing, and it is where few bits hurt most: half precision counts in
steps of 0.5 between 512 and 1024, and one scale over pixels and scores leaves scores no steps at all. It stays float32
in every precision.

The layers at the rim are a case of their own where eight bits are asked for. The first reads the picture and has three
channels, which a CPU's 8-bit kernels have no use for; the last give what boxes and scores are made of. A CPU runs them
in float. On a GPU float between eight bits costs more in rearranging than it is worth (``quantise.float_on_gpus``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import numpy_helper

_LEARNED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_ASK_ONLY_FOR_SHAPES = frozenset({"Shape", "Size"})
_AROUND_WEIGHTS = frozenset({"QuantizeLinear", "DequantizeLinear"})


@dataclass(frozen=True, slots=True)
class Layers:
    """Names of a graph's nodes."""

    tail: frozenset[str]
    """Behind the last learned layers; empty where nothing is learned."""
    first: frozenset[str]
    """Convolutions that no other comes before."""
    last: frozenset[str]
    """Learned layers that the tail begins behind."""
    body: frozenset[str]
    """Whatever leads from the first convolutions to others, both included, and works on maps ``[N, C, H, W]``."""


def find_layers(graph: Any) -> Layers:
    """Sort the nodes of ``graph``. Every node must have a name, nodes must be in order, shapes inferred."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    made_by = {name: node for node in graph.node for name in node.output}
    tail, last = _tail(graph, made_by, constants)
    convolutions = [node for node in graph.node if node.op_type == "Conv" and node.name not in tail]
    behind: set[str] = set()  # tensors that some convolution leads to
    first, inside = set(), set()
    for node in graph.node:
        led_to = any(name in behind for name in node.input)
        if node.op_type == "Conv" and not led_to:
            first.add(node.name)
        if led_to or node.op_type == "Conv":
            behind.update(node.output)
            inside.add(node.name)
    maps = _maps(graph)
    before = set(_before(convolutions, made_by))
    body = {node.name for node in graph.node if node.name in before & inside and maps.intersection(node.input)}
    return Layers(frozenset(tail), frozenset(first) - tail, frozenset(last), frozenset(body) - tail)


def _tail(graph: Any, made_by: dict[str, Any], constants: dict[str, Any]) -> tuple[set[str], set[str]]:
    pending = [value.name for value in graph.output]
    tail: set[str] = set()
    last: set[str] = set()
    while pending:
        node = made_by.get(pending.pop())
        if node is None or node.name in tail or node.op_type in _ASK_ONLY_FOR_SHAPES:
            continue
        if node.op_type in _LEARNED and _has_learned_weights(node, made_by, constants):
            last.add(node.name)
            continue
        tail.add(node.name)
        pending.extend(node.input)
    return (tail, last) if last else (set(), set())


def _has_learned_weights(node: Any, made_by: dict[str, Any], constants: dict[str, Any]) -> bool:
    """Whether a layer has weights, and other than 0, 1, 2, ...: those make the mean of a distribution."""
    names = [_unquantised(name, made_by) for name in node.input[:2]]
    weights = [constants[name] for name in names if name in constants]
    if not weights:  # MatMul of two activations
        return False
    values = numpy_helper.to_array(weights[0]).ravel()
    return not (values.size > 1 and np.array_equal(values, np.arange(values.size)))


def _unquantised(name: str, made_by: dict[str, Any]) -> str:
    """Return what ``name`` is where Q/DQ nodes are left out."""
    while (maker := made_by.get(name)) is not None and maker.op_type in _AROUND_WEIGHTS:
        name = maker.input[0]
    return name


def _maps(graph: Any) -> set[str]:
    values = [*graph.input, *graph.value_info, *graph.output]
    return {value.name for value in values if len(value.type.tensor_type.shape.dim) == 4}


def _before(nodes: list[Any], made_by: dict[str, Any]) -> Iterator[str]:
    """Yield the names of ``nodes`` and of every node that leads to one of them."""
    pending, seen = list(nodes), {node.name for node in nodes}
    while pending:
        node = pending.pop()
        yield node.name
        for name in node.input:
            maker = made_by.get(name)
            if maker is not None and maker.name not in seen:
                seen.add(maker.name)
                pending.append(maker)
