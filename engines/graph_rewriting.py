"""Rewriting an ONNX graph by rules: a model goes in, and the same model in other nodes comes out, or None."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.external_data_helper import uses_external_data

from engines.model_file import tensors_of

_STANDARD = ("", "ai.onnx")
_LARGEST_FILE_BYTES = 1 << 28
"""The rewritten model travels through memory twice more; models beyond this size gain too little by it."""


def rewritten(model: Path, rules: Iterable[Rule]) -> bytes | None:
    """Return ``model`` as ``rules`` make it, serialised; None where none of them finds anything to rewrite.

    None, too, for a file that cannot be read, is larger than 256 MiB or has its weights in files beside it.
    """
    try:
        if model.stat().st_size > _LARGEST_FILE_BYTES:
            return None
        proto = onnx.load_model(model, load_external_data=False)
    except Exception:  # whoever opens the file says what is wrong with it
        return None
    if any(uses_external_data(tensor) for tensor in tensors_of(proto.graph)):
        return None
    graph = OnnxGraph(proto)
    changed = [rule(graph) for rule in rules]
    if not any(changed):
        return None
    graph.finish()
    serialised: bytes = proto.SerializeToString()
    return serialised


class OnnxGraph:
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


Rule = Callable[[OnnxGraph], bool]
"""Rewrites what it finds in the graph; returns whether it found anything."""
