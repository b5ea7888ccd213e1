"""The part of a detector that is arithmetic on its answers, not a network: everything behind the last learned layers.

Boxes are decoded there from offsets, distributions and grids, and scores leave their sigmoid. It costs next to nothing,
and it is where few bits hurt most: half precision counts in steps of 0.5 between 512 and 1024, and a scale of 1/127
over pixels and scores at once leaves scores no steps at all. So it stays in float32 in every precision.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import numpy_helper

LEARNED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_ASK_ONLY_FOR_SHAPES = frozenset({"Shape", "Size"})


def head_tail(graph: Any) -> frozenset[str]:
    """Return the names of the nodes between the last learned layers and the outputs; none where nothing is learned.

    Every node must have a name. The layer of a distribution's mean (a convolution by 0, 1, 2, ...) is not learned.
    """
    made_by = {name: node for node in graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    pending = [value.name for value in graph.output]
    tail: set[str] = set()
    stopped = False
    while pending:
        node = made_by.get(pending.pop())
        if node is None or node.name in tail or node.op_type in _ASK_ONLY_FOR_SHAPES:
            continue
        if node.op_type in LEARNED and _has_learned_weights(node, constants):
            stopped = True
            continue
        tail.add(node.name)
        pending.extend(node.input)
    return frozenset(tail) if stopped else frozenset()


def _has_learned_weights(node: Any, constants: dict[str, Any]) -> bool:
    weights = [constants[name] for name in node.input[:2] if name in constants]
    if not weights:  # MatMul of two activations
        return False
    if weights[0].data_location == weights[0].EXTERNAL:
        return True
    values = numpy_helper.to_array(weights[0]).ravel()
    return not (values.size > 1 and np.array_equal(values, np.arange(values.size)))
