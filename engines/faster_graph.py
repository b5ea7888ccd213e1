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

from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper

from engines.graph_rewriting import OnnxGraph, Rule, attributes, rewritten

_SWAP_FIRST_AND_LAST = [0, 3, 2, 1]
"""Transposes channels first to channels last and back."""
_SOFTMAX_OF_ONE_AXIS = 13
"""Until this opset, softmax took all axes from the given one on together."""
_TO_THE_END = (1 << 31) - 1
"""Exporters write one of the largest integers for "to the end"."""


def faster_graph(model: Path) -> bytes | None:
    """Return ``model`` rewritten and serialised; None where there is nothing to rewrite."""
    return rewritten(model, _RULES)


def _unite_focus(graph: OnnxGraph) -> bool:
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


def _phase(graph: OnnxGraph, name: str) -> tuple[str, int, int]:
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


def _chain_pools(graph: OnnxGraph) -> bool:
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


def _sum_shares_in_place(graph: OnnxGraph) -> bool:
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


def _channels_last(graph: OnnxGraph, conv: Any) -> tuple[str, list[Any]] | None:
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


_RULES: tuple[Rule, ...] = (_unite_focus, _chain_pools, _sum_shares_in_place)
