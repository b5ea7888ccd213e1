"""Rewrites what ONNX Runtime's CPU build runs slowly into equal arithmetic that it runs fast.

Nothing is approximated: results are the same, up to the order in which a convolution adds. Three things that exporters
write cost a detector more than they should, because they move the whole picture or tensor about for little arithmetic:

- *Focus* (YOLOX; YOLOv5 up to 5.0): four slices take every second pixel, a concatenation stacks them, a convolution
  reads the stack. The same convolution with its kernel spread over twice the width and a stride of two reads the
  picture as it is. 9 % of YOLOX-nano at 416.
- *Spatial pyramid pooling* (YOLOX, YOLOv7; He et al., arXiv:1406.4729): maximum over 5, 9 and 13 pixels, each from the
  start. A maximum of maxima is the same, and 13 = 5 + 5 - 1 + 5 - 1.
- *Distribution focal loss* (YOLOv8 to 12; Li et al., arXiv:2006.04388): a convolution sums 16 shares a box edge to one
  number. As a matrix product it takes them where the softmax left them, instead of moved to the channels first. 4 % of
  YOLOv8n at 640.

Shares of the time measured with one thread of a 2.1 GHz Xeon; ``python -m tests.benchmarks.bench_runtime``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.external_data_helper import uses_external_data

_STANDARD = ("", "ai.onnx")
_LARGEST_FILE_BYTES = 1 << 28
"""The rewritten model travels through memory twice more; models beyond this size gain too little by it."""
_SWAP_FIRST_AND_LAST = [0, 3, 2, 1]
"""Transposes channels first to channels last and back."""
_SOFTMAX_OF_ONE_AXIS = 13
"""Until this opset, softmax took all axes from the given one on together."""
_TO_THE_END = (1 << 31) - 1
"""Exporters write one of the largest integers for "to the end"."""


def faster_graph(model: Path) -> bytes | None:
    """Return ``model`` rewritten and serialised; None where there is nothing to rewrite."""
    try:
        if model.stat().st_size > _LARGEST_FILE_BYTES:
            return None
        proto = onnx.load_model(model, load_external_data=False)
    except Exception:  # whoever opens the file says what is wrong with it
        return None
    if any(uses_external_data(tensor) for tensor in proto.graph.initializer):
        return None
    graph = _Graph(proto)
    changed = [rule(graph) for rule in _RULES]
    if not any(changed):
        return None
    graph.finish()
    rewritten: bytes = proto.SerializeToString()
    return rewritten


class _Graph:
    """A graph's nodes and constants while they are rewritten."""

    def __init__(self, model: Any) -> None:
        self._graph = graph = model.graph
        self.opset = max((opset.version for opset in model.opset_import if opset.domain in _STANDARD), default=0)
        self.nodes = list(graph.node)
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        self._fed = {value.name for value in graph.input}
        self._made_by = {name: node for node in self.nodes for name in node.output}

    def maker(self, name: str, op_type: str) -> Any:
        """Return the node that makes ``name`` if it is an ``op_type``, else None."""
        node = self._made_by.get(name)
        return node if node is not None and node.op_type == op_type and node.domain in _STANDARD else None

    def of_type(self, op_type: str) -> list[Any]:
        """Return the nodes of one operator, in the graph's order."""
        return [node for node in self.nodes if node.op_type == op_type and node.domain in _STANDARD]

    def constant(self, name: str) -> NDArray[Any] | None:
        """Return the value of ``name``; None where it is not constant."""
        if name in self._weights and name not in self._fed:  # an initializer that is an input, too, is only a default
            value: NDArray[Any] = numpy_helper.to_array(self._weights[name])
            return value
        node = self.maker(name, "Constant")
        return attributes(node).get("value") if node is not None else None

    def add_weight(self, output: str, value: NDArray[Any]) -> str:
        """Add an initializer for the node that makes ``output``; return its name."""
        name = f"onpace/weight/{output}"
        self._graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def replace(self, olds: list[Any], news: list[Any]) -> None:
        """Put ``news`` in the place of the first of ``olds``, which must make what they make."""
        places = [place for place, node in enumerate(self.nodes) if any(node is old for old in olds)]
        for place in reversed(places):
            del self.nodes[place]
        self.nodes[places[0] : places[0]] = news
        self._made_by.update({name: node for node in news for name in node.output})

    def finish(self) -> None:
        """Write the nodes back, without those and the weights that nobody reads any more."""
        read = {value.name for value in self._graph.output}
        kept = []
        for node in reversed(self.nodes):
            if read.intersection(node.output) or not node.output:
                kept.append(node)
                read.update(node.input, *map(_names_in_subgraphs, node.attribute))
        weights = [tensor for tensor in self._graph.initializer if tensor.name in read]
        kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(kept)]
        del self._graph.node[:], self._graph.initializer[:]
        self._graph.node.extend(kept)
        self._graph.initializer.extend(weights)


def attributes(node: Any) -> dict[str, Any]:
    """Return a node's attributes by name, tensors as arrays."""
    found = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return {name: numpy_helper.to_array(x) if isinstance(x, onnx.TensorProto) else x for name, x in found.items()}


def _names_in_subgraphs(attribute: Any) -> set[str]:
    graphs = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
    inner = {name for graph in graphs for node in graph.node for name in node.input}
    inner.update(value.name for graph in graphs for value in graph.output)
    return inner.union(*(_names_in_subgraphs(a) for graph in graphs for node in graph.node for a in node.attribute))


def _unite_focus(graph: _Graph) -> bool:
    """Slices, concatenation and convolution -> one convolution of twice the kernel and stride."""
    united = False
    for conv in graph.of_type("Conv"):
        stack = graph.maker(conv.input[0], "Concat")
        if stack is None or len(stack.input) != 4 or attributes(stack).get("axis") != 1:
            continue
        kernel, facts = graph.constant(conv.input[1]), attributes(conv)
        phases = [_phase(graph, name) for name in stack.input]
        picture = phases[0][0]
        if {source for source, _, _ in phases} != {picture} or not picture or len(set(phases)) != 4:
            continue
        plain = facts.get("group", 1) == 1 and set(facts.get("dilations", [1])) == {1}
        if kernel is None or kernel.ndim != 4 or not plain or facts.get("auto_pad", b"NOTSET") != b"NOTSET":
            continue
        out_channels, stacked, height, width = kernel.shape
        spread = np.zeros((out_channels, stacked // 4, 2 * height, 2 * width), kernel.dtype)
        for (_, row, column), part in zip(phases, np.split(kernel, 4, axis=1), strict=True):
            spread[:, :, row::2, column::2] = part
        new = helper.make_node(
            "Conv",
            [picture, graph.add_weight(conv.output[0], spread), *conv.input[2:]],
            conv.output,
            conv.name,
            kernel_shape=spread.shape[2:],
            strides=[2 * stride for stride in facts.get("strides", [1, 1])],
            pads=[2 * pad for pad in facts.get("pads", [0, 0, 0, 0])],
        )
        graph.replace([conv], [new])
        united = True
    return united


def _phase(graph: _Graph, name: str) -> tuple[str, int, int]:
    """Return what ``name`` takes every second row and column of, and the first row and column; "" for anything else."""
    first: dict[int, int] = {}
    while (node := graph.maker(name, "Slice")) is not None:
        bounds = [graph.constant(argument) for argument in node.input[1:]]
        if len(bounds) != 4 or any(bound is None for bound in bounds):
            break
        for start, end, axis, step in zip(
            *(np.ravel(bound).tolist() for bound in bounds if bound is not None), strict=True
        ):
            if axis % 4 not in (2, 3) or axis % 4 in first or start not in (0, 1) or end < _TO_THE_END or step != 2:
                return "", 0, 0
            first[axis % 4] = start
        name = node.input[0]
    return (name, first[2], first[3]) if len(first) == 2 else ("", 0, 0)


def _chain_pools(graph: _Graph) -> bool:
    """Maxima over growing squares of one tensor -> each from the one before."""
    by_source: dict[str, list[tuple[int, Any]]] = {}
    for pool in graph.of_type("MaxPool"):
        side = _side_of_same_size_pool(pool)
        if side:
            by_source.setdefault(pool.input[0], []).append((side, pool))
    chained = False
    for source, pools in by_source.items():
        pools.sort(key=lambda sized: sized[0])
        if len({side for side, _ in pools}) < max(2, len(pools)):
            continue
        news, reached = [], 1
        for side, pool in pools:
            reach = side - reached + 1
            half = [reach // 2] * 4
            news.append(
                helper.make_node("MaxPool", [source], pool.output, pool.name, kernel_shape=[reach] * 2, pads=half)
            )
            source, reached = pool.output[0], side
        graph.replace([pool for _, pool in pools], news)
        chained = True
    return chained


def _side_of_same_size_pool(pool: Any) -> int:
    """Return the side of the square that a pool looks at, where it moves by one and keeps the size; else 0."""
    facts = attributes(pool)
    kernel, pads = list(facts.get("kernel_shape", [])), list(facts.get("pads", []))
    moves_by_one = set(facts.get("strides", [1])) == set(facts.get("dilations", [1])) == {1}
    if len(kernel) != 2 or kernel[0] != kernel[1] or kernel[0] % 2 == 0 or not moves_by_one or len(pool.output) != 1:
        return 0
    return int(kernel[0]) if pads == [kernel[0] // 2] * 4 else 0


def _sum_shares_in_place(graph: _Graph) -> bool:
    """1x1 convolution to few channels, moved to the front for it -> matrix product where they are, at the end."""
    changed = False
    for conv in graph.of_type("Conv"):
        found = _channels_last(graph, conv)
        facts, kernel = attributes(conv), graph.constant(conv.input[1]) if found else None
        if found is None or kernel is None or len(conv.input) != 2 or facts.get("group", 1) != 1:
            continue
        one_by_one = (
            kernel.shape[2:] == (1, 1) and set(facts.get("strides", [1])) == {1} and not any(facts.get("pads", []))
        )
        if not one_by_one or 2 * kernel.shape[0] > kernel.shape[1]:
            continue
        channels_last, news = found
        summed = f"onpace/sum/{conv.output[0]}"
        matrix = graph.add_weight(conv.output[0], kernel[:, :, 0, 0].T)
        news += [
            helper.make_node("MatMul", [channels_last, matrix], [summed]),
            helper.make_node("Transpose", [summed], conv.output, conv.name, perm=_SWAP_FIRST_AND_LAST),
        ]
        graph.replace([conv], news)
        changed = True
    return changed


def _channels_last(graph: _Graph, conv: Any) -> tuple[str, list[Any]] | None:
    """Return what ``conv`` reads with its channels at the end, and nodes that make it so; None unless that is cheap."""
    moved = graph.maker(conv.input[0], "Transpose")
    if moved is not None:
        return (moved.input[0], []) if list(attributes(moved).get("perm", [])) == _SWAP_FIRST_AND_LAST else None
    softmax = graph.maker(conv.input[0], "Softmax")
    if softmax is None or attributes(softmax).get("axis") != 1 or graph.opset < _SOFTMAX_OF_ONE_AXIS:
        return None
    # Along any axis but the last, ONNX Runtime moves that axis to the end and back for itself.
    source, shares = f"onpace/source/{conv.output[0]}", f"onpace/shares/{conv.output[0]}"
    transpose = helper.make_node("Transpose", softmax.input, [source], perm=_SWAP_FIRST_AND_LAST)
    return shares, [transpose, helper.make_node("Softmax", [source], [shares], softmax.name, axis=3)]


_RULES: tuple[Callable[[_Graph], bool], ...] = (_unite_focus, _chain_pools, _sum_shares_in_place)
