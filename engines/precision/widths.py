"""Widens the channels of a typed int8 model to multiples of 32 with zeros, so that TensorRT need not rearrange them.

TensorRT's eight-bit kernels hold channels in groups of 32 and compute whole groups, whatever the width. Where a part of
a join or of a split begins in the middle of a group (two halves of 40 channels), it copies the part to where it can be
used. Here every such part gets a group of its own: padding that the kernels hold and compute anyway.

What the padding holds does not matter (behind a sigmoid it is 0.5), since the weights that read it are zero. So every
sum has the same terms and some zeros.

How it works: a *cut* is a channel of a tensor where padding may be put in, its first and its end to begin with. Where
operators hand channels on (``_Share``), each cut of one tensor is one of the other, so cuts spread until none is new.
Convolutions end the spreading: they take any layout and make any other. Padding every piece between two cuts then gives
all tensors that share channels layouts that agree. Tensors that share channels with one that must stay as it is (an
output, what a depthwise convolution or an operator not known here reads) stay as they are, all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

GROUP = 32
"""Channels that TensorRT's eight-bit kernels hold together (NC/32HW32)."""
_NARROWEST = 8
"""Pieces of fewer channels are left alone: most of what is computed would be padding."""

_AROUND = frozenset({"QuantizeLinear", "DequantizeLinear"})


def widened(model: Any) -> Any:
    """Return what ``quantised`` returned with its channels in whole groups; ``model`` itself where they all are.

    Widened is only what eight-bit convolutions make and is kept in eight bits: anywhere else padding would cost. Inputs
    and outputs, names of nodes and of tensors stay as they are.
    """
    if any(attribute.HasField("g") or attribute.graphs for node in model.graph.node for attribute in node.attribute):
        return model  # tensors may be read from inside
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    del wide.graph.value_info[:]
    graph = _Graph(onnx.shape_inference.infer_shapes(wide).graph)
    layouts = _layouts(graph)
    if not layouts:
        return model
    del wide.graph.node[:], wide.graph.initializer[:]
    wide.graph.node.extend(_rewritten(graph, layouts))
    used = {name for node in wide.graph.node for name in node.input}
    wide.graph.initializer.extend(tensor for name, tensor in graph.constants.items() if name in used | graph.ends)
    return onnx.shape_inference.infer_shapes(wide)


@dataclass(frozen=True, slots=True)
class _Share:
    """Channels that two tensors have in common: all of ``part`` are those of ``whole`` from ``first`` on."""

    whole: str
    part: str
    first: int = 0


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the channels of a tensor are once it is padded."""

    begins: dict[int, int]
    """Of each cut, the end included: where it is now."""
    places: NDArray[np.int64]
    """Of each channel: where it is now."""

    @classmethod
    def of(cls, cuts: set[int]) -> _Layout:
        begins, places, width = {}, [], 0
        for first, end in pairwise(sorted(cuts)):
            begins[first] = width
            places.append(np.arange(width, width + end - first))
            width += -(-(end - first) // GROUP) * GROUP
        return cls({**begins, max(cuts): width}, np.concatenate(places))

    @property
    def width(self) -> int:
        return max(self.begins.values())

    def spread(self, values: NDArray[Any], axis: int, padding: float = 0) -> NDArray[Any]:
        """Return ``values``, one of them a channel along ``axis``, with ``padding`` in between."""
        shape = list(values.shape)
        shape[axis] = self.width
        wide = np.full(shape, padding, values.dtype)
        np.moveaxis(wide, axis, 0)[self.places] = np.moveaxis(values, axis, 0)
        return wide


class _Graph:
    """Looks up what an onnx.GraphProto holds."""

    def __init__(self, graph: Any) -> None:
        self.nodes: Sequence[Any] = graph.node
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.ends = {value.name for value in (*graph.input, *graph.output)}
        self.made_by = {name: node for node in graph.node for name in node.output}
        self.read_by: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in node.input:
                self.read_by.setdefault(name, []).append(node)
        values = (*graph.input, *graph.output, *graph.value_info)
        self._dims = {value.name: value.type.tensor_type.shape.dim for value in values}

    def rank(self, name: str) -> int:
        """Return how many dimensions a tensor has; 0 where that is not known."""
        return len(self._dims.get(name, ()))

    def channels(self, name: str) -> int:
        """Return the length of a tensor's second dimension; 0 where it is not known, or there are but two."""
        return int(self._dims[name][1].dim_value) if self.rank(name) > 2 else 0

    def values(self, name: str) -> NDArray[Any] | None:
        """Return a constant's values; None for anything else."""
        tensor = self.constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def add(self, tensor: str, what: str, values: NDArray[Any]) -> str:
        """Add a constant for the node that makes ``tensor``; return its name."""
        name = f"{tensor}/wide/{what}"
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name


def _attributes(node: Any) -> dict[str, Any]:
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


# --- which tensors share which channels


def _shares(graph: _Graph, node: Any) -> list[_Share] | None:
    """Return which channels a node hands on; None where it is not known, so that all its tensors must stay."""
    rule = _RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    shares = rule(graph, node) if rule is not None else None
    if shares is None:
        return None
    for share in shares:
        whole, part = graph.channels(share.whole), graph.channels(share.part)
        fits = part > 0 and share.first >= 0 and share.first + part <= whole
        if not fits or graph.rank(share.whole) != graph.rank(share.part):
            return None
    return shares


def _same(graph: _Graph, name: str, others: Sequence[str]) -> list[_Share] | None:
    """Return shares of tensors that must have the same channels; None where they have not."""
    alike = len({graph.channels(each) for each in (name, *others)}) == 1
    return [_Share(name, other) for other in others] if alike and others else None


def _by_channel(graph: _Graph, node: Any) -> list[_Share] | None:
    """Operators that do the same with every channel: all inputs but single numbers have the output's channels."""
    given = [name for name in node.input if name and not _is_one_number(graph, name)]
    return _same(graph, node.output[0], given) if len(node.output) == 1 else None


def _is_one_number(graph: _Graph, name: str) -> bool:
    values = graph.values(name)
    return values is not None and values.size == 1


def _parts(graph: _Graph, whole: str, parts: Sequence[str]) -> list[_Share] | None:
    widths = [graph.channels(part) for part in parts]
    if not all(widths) or sum(widths) != graph.channels(whole):
        return None
    return [_Share(whole, part, first) for part, first in zip(parts, accumulate(widths, initial=0), strict=False)]


def _concat(graph: _Graph, node: Any) -> list[_Share] | None:
    (whole,), axis = node.output, _attributes(node)["axis"]
    return _parts(graph, whole, node.input) if graph.rank(whole) and axis % graph.rank(whole) == 1 else None


def _split(graph: _Graph, node: Any) -> list[_Share] | None:
    facts, whole = _attributes(node), node.input[0]
    sizes_known = "split" not in facts and all(name in graph.constants for name in node.input[1:])
    along_channels = graph.rank(whole) and facts.get("axis", 0) % graph.rank(whole) == 1
    return _parts(graph, whole, node.output) if sizes_known and along_channels else None


def _slice(graph: _Graph, node: Any) -> list[_Share] | None:
    bounds = [graph.values(name) for name in node.input[1:]]
    if len(bounds) < 3 or not all(bound is not None and bound.size == 1 for bound in bounds):
        return None
    start, end, axis, *step = (int(bound.ravel()[0]) for bound in bounds if bound is not None)
    whole, part = node.input[0], node.output[0]
    if not graph.rank(whole) or axis % graph.rank(whole) != 1 or step not in ([], [1]):
        return None
    first, last, _ = slice(start, end).indices(graph.channels(whole))
    return [_Share(whole, part, first)] if last - first == graph.channels(part) else None


def _resize(graph: _Graph, node: Any) -> list[_Share] | None:
    """Resize of pictures: no channel is made of others."""
    facts, given = _attributes(node), [*node.input, "", "", ""][:4]
    by_region = facts.get("coordinate_transformation_mode") == b"tf_crop_and_resize"
    if by_region or facts.keys() & {"axes", "keep_aspect_ratio_policy"}:
        return None
    stated = graph.values(given[3] or given[2])
    kept = graph.channels(given[0]) if given[3] else 1
    return _same(graph, node.output[0], given[:1]) if stated is not None and stated[1] == kept else None


def _convolution(graph: _Graph, node: Any) -> list[_Share] | None:
    """Convolutions hand no channel on; but those that read the same weights must agree on both sides."""
    steps = _weight_steps(graph, node)
    if steps is None or _attributes(node).get("group", 1) != 1:
        return None
    if len(node.input) > 2 and node.input[2] and node.input[2] not in graph.constants:
        return None
    weights = graph.constants[steps[-1].input[0] if steps else node.input[1]]
    if [graph.channels(node.output[0]), graph.channels(node.input[0])] != list(weights.dims[:2]):
        return None
    shares: list[_Share] = []
    for other in graph.read_by[node.input[1]] if steps else []:
        if other.op_type != "Conv" or other.input[1] != node.input[1] or node.input[1] in other.input[::2]:
            return None
        if other.output[0] != node.output[0]:
            shares += [_Share(node.input[0], other.input[0]), _Share(node.output[0], other.output[0])]
    return shares


def _weight_steps(graph: _Graph, conv: Any) -> list[Any] | None:
    """Return the Q/DQ nodes between a convolution and its constant weights, the last one first; None: they are not."""
    steps: list[Any] = []
    name = conv.input[1]
    while name not in graph.constants:
        node = graph.made_by.get(name)
        if node is None or node.op_type not in _AROUND or name in graph.ends:
            return None
        if steps and len(graph.read_by[name]) > 1:
            return None
        numbers = [graph.values(each) for each in node.input[1:]]
        along_outputs = _attributes(node).get("axis", 1) == 0
        if not all(each is not None and (each.size == 1 or (along_outputs and each.ndim == 1)) for each in numbers):
            return None
        steps.append(node)
        name = node.input[0]
    return steps


_BY_CHANNEL = (
    *("Add", "Mul", "Sub"),
    *("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"),
    *("Clip", "Elu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Mish", "Relu", "Sigmoid", "Tanh"),
    *_AROUND,
)
_RULES: dict[str, Callable[[_Graph, Any], list[_Share] | None]] = {
    **dict.fromkeys(_BY_CHANNEL, _by_channel),
    "Concat": _concat,
    "Conv": _convolution,
    "Resize": _resize,
    "Slice": _slice,
    "Split": _split,
}


# --- layouts


def _layouts(graph: _Graph) -> dict[str, _Layout]:
    """Return the layouts of all tensors that get another width or place."""
    shares, stay, made, kept = [], {*graph.ends, *graph.constants}, set(), set()
    for node in graph.nodes:
        found = _shares(graph, node)
        if found is None:
            stay.update(node.input, node.output)
        else:
            shares += found
        if node.op_type == "Conv" and node.input[1] not in graph.constants:
            made.add(node.output[0])
        elif node.op_type == "QuantizeLinear":
            kept.add(node.input[0])
    cuts = _cuts(graph, shares, made)
    layouts: dict[str, _Layout] = {}
    for tensors in _sharing(shares, made):
        pieces = [end - first for name in tensors for first, end in pairwise(sorted(cuts[name]))]
        narrow = any(piece % GROUP for piece in pieces) and min(pieces) >= _NARROWEST
        if narrow and not tensors & stay and tensors & kept:
            layouts |= {name: _Layout.of(cuts[name]) for name in sorted(tensors)}
    return layouts


def _cuts(graph: _Graph, shares: list[_Share], made: set[str]) -> dict[str, set[int]]:
    """Return the channels of each tensor where padding may be put in, its first and its end included."""
    names = made.union(*((share.whole, share.part) for share in shares))
    cuts = {name: {0, graph.channels(name)} for name in names}
    spreading = True
    while spreading:
        spreading = False
        for share in shares:
            whole, part = cuts[share.whole], cuts[share.part]
            inside = range(share.first, share.first + graph.channels(share.part) + 1)
            handed = {cut - share.first for cut in whole if cut in inside} - part
            taken = {cut + share.first for cut in part | handed} - whole
            part |= handed
            whole |= taken
            spreading = spreading or bool(handed or taken)
    return cuts


def _sharing(shares: list[_Share], made: set[str]) -> Iterator[set[str]]:
    """Yield sets of tensors that share channels with each other and with no others, each with one of ``made`` in it."""
    beside: dict[str, set[str]] = {}
    for share in shares:
        beside.setdefault(share.whole, set()).add(share.part)
        beside.setdefault(share.part, set()).add(share.whole)
    seen: set[str] = set()
    for name in sorted(made):
        if name in seen:
            continue
        found, pending = {name}, [name]
        while pending:
            new = beside.get(pending.pop(), set()) - found
            found |= new
            pending += new
        seen |= found
        yield found


# --- the same nodes in other widths


def _rewritten(graph: _Graph, layouts: dict[str, _Layout]) -> list[Any]:
    """Return the nodes of ``graph``, changed to ``layouts``; their constants are added to it."""
    for node in list(graph.nodes):
        if node.op_type == "Conv":
            _widen_convolution(graph, node, layouts)
        elif layouts.keys().isdisjoint(node.input):
            continue
        elif node.op_type == "Split":
            sizes = np.array([layouts[name].width for name in node.output], np.int64)
            node.input[:] = [node.input[0], graph.add(node.output[0], "sizes", sizes)]
            kept = [attribute for attribute in node.attribute if attribute.name != "num_outputs"]
            del node.attribute[:]
            node.attribute.extend(kept)
        elif node.op_type == "Slice":
            _widen_slice(graph, node, layouts)
        elif node.op_type == "Resize" and len(node.input) > 3 and node.input[3]:
            sizes = numpy_helper.to_array(graph.constants[node.input[3]]).copy()
            sizes[1] = layouts[node.input[0]].width
            node.input[3] = graph.add(node.output[0], "sizes", sizes)
    return list(graph.nodes)


def _widen_slice(graph: _Graph, node: Any, layouts: dict[str, _Layout]) -> None:
    (share,) = _slice(graph, node) or []
    begins = layouts[share.whole].begins
    for place, cut in ((1, share.first), (2, share.first + graph.channels(share.part))):
        bound = np.full_like(numpy_helper.to_array(graph.constants[node.input[place]]), begins[cut])
        node.input[place] = graph.add(node.output[0], "start" if place == 1 else "end", bound)


def _widen_convolution(graph: _Graph, conv: Any, layouts: dict[str, _Layout]) -> None:
    given, made = layouts.get(conv.input[0]), layouts.get(conv.output[0])
    if given is None and made is None:
        return
    steps = _weight_steps(graph, conv) or []
    if not steps or graph.read_by[conv.input[1]][0].output[0] == conv.output[0]:  # the first of those that share steps
        reader, place = (steps[-1], 0) if steps else (conv, 1)
        weights = numpy_helper.to_array(graph.constants[reader.input[place]])
        weights = weights if given is None else given.spread(weights, 1)
        weights = weights if made is None else made.spread(weights, 0)
        reader.input[place] = graph.add(conv.output[0], "weights", weights)
    if made is None:
        return
    for step in steps:
        _widen_scales(graph, step, made)
    if len(conv.input) > 2 and conv.input[2]:
        bias = numpy_helper.to_array(graph.constants[conv.input[2]])
        conv.input[2] = graph.add(conv.output[0], "bias", made.spread(bias, 0))


def _widen_scales(graph: _Graph, step: Any, made: _Layout) -> None:
    for place, what, padding in ((1, "scale", 1), (2, "zero_point", 0))[: len(step.input) - 1]:
        numbers = numpy_helper.to_array(graph.constants[step.input[place]])
        if len(numbers.shape) == 1 and len(numbers) == len(made.places):
            step.input[place] = graph.add(step.output[0], what, made.spread(numbers, 0, padding))
