"""The range that each tensor of a graph takes on calibration pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from engines.errors import ModelError, RunError

Method = Literal["percentile", "entropy", "minmax"]
Ranges = Mapping[str, tuple[float, float]]
"""Tensor -> its lowest and highest value that counts."""

_BINS, _LEVELS = 2048, 128
"""Of entropy's histograms, and of eight bits on one side of zero."""


def calibrated_ranges(
    model: Any, pictures: Iterable[Mapping[str, NDArray[Any]]], method: Method, percentile: float
) -> Ranges:
    """Return the range of every float activation of ``model`` (an onnx.ModelProto) over ``pictures`` (feeds by name).

    percentile: of each picture the range that holds ``percentile`` of a tensor's values (the rest left out evenly at
    both ends), averaged over the pictures: one odd picture moves it little. entropy: cut where 8 bits lose least of
    what the values tell. minmax: everything that was ever seen. Raises ModelError where there are no pictures,
    RunError where the model fails on one.
    """
    names = _float_activations(model.graph)
    session = _session_that_shows(model, names)
    collector = _Entropy() if method == "entropy" else _Percentile(100.0 if method == "minmax" else percentile)
    inputs = {value.name for value in model.graph.input}
    shown = [name for name in names if name not in inputs]
    count = 0
    for feeds in pictures:
        try:
            arrays = dict(zip(shown, session.run(shown, dict(feeds)), strict=True))
        except Exception as error:  # ONNX Runtime's exceptions have no common base of their own
            raise RunError(f"calibration: picture {count + 1} failed in ONNX Runtime: {error}") from error
        arrays.update({name: feeds[name] for name in names if name in feeds})
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise ModelError(f"calibration: tensor '{name}' is not a number in picture {count + 1}.")
        collector.add(arrays)
        count += 1
    if not count:
        raise ModelError(
            "calibration: no pictures. int8 takes its ranges from pictures: give some with --calibration, a video, "
            "a folder of pictures or a recording, as the cameras will show them."
        )
    return collector.ranges(widest=method == "minmax")


def _float_activations(graph: Any) -> tuple[str, ...]:
    constants = {tensor.name for tensor in graph.initializer}
    values = [*graph.input, *graph.value_info, *graph.output]
    made = {name for node in graph.node for name in node.output} | {value.name for value in graph.input}
    floats = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    return tuple(sorted((floats & made) - constants))


def _session_that_shows(model: Any, names: Sequence[str]) -> Any:
    """Return a session of ``model`` whose outputs are ``names`` as well."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError(
            f"int8 and fp8 are calibrated by ONNX Runtime, which is not here: {error}. pip install onnxruntime."
        ) from error

    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    outputs = {value.name for value in shown.graph.output} | {value.name for value in shown.graph.input}
    for name in names:
        if name not in outputs:
            shown.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # every tensor is wanted
    try:
        return onnxruntime.InferenceSession(shown.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common base of their own
        words = " ".join(str(error).split())[:300]
        raise ModelError(
            f"calibration: ONNX Runtime cannot load the model: {words}. Check it, or export it again."
        ) from error


class _Percentile:
    def __init__(self, percentile: float) -> None:
        self._cut = (100.0 - percentile) / 200
        self._seen: dict[str, list[tuple[float, float]]] = {}

    def add(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        for name, array in arrays.items():
            if array.size:
                self._seen.setdefault(name, []).append(_ends_of(array.ravel(), self._cut))

    def ranges(self, *, widest: bool) -> Ranges:
        found = {}
        for name, pairs in self._seen.items():
            ends = np.array(pairs)
            low, high = (ends[:, 0].min(), ends[:, 1].max()) if widest else ends.mean(axis=0)
            found[name] = (float(low), float(high))
        return found


def _ends_of(values: NDArray[Any], cut: float) -> tuple[float, float]:
    """Return the lowest and the highest of ``values`` once the part ``cut`` (0-0.25) is left out at either end."""
    left_out = int(cut * (values.size - 1))
    if left_out == 0:
        return float(values.min()), float(values.max())
    ordered = np.partition(values, (left_out, values.size - 1 - left_out))
    return float(ordered[left_out]), float(ordered[values.size - 1 - left_out])


class _Entropy:
    def __init__(self) -> None:
        self._seen: dict[str, _Histogram] = {}

    def add(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        for name, array in arrays.items():
            if array.size:
                self._seen.setdefault(name, _Histogram()).add(array)

    def ranges(self, *, widest: bool) -> Ranges:
        found = {}
        for name, seen in self._seen.items():
            end = seen.end * _entropy_end(seen.counts)
            found[name] = (max(seen.least, -end), min(seen.most, end)) if seen.least <= end else (seen.least, seen.most)
        return found


class _Histogram:
    """How often values of each magnitude came, in bins of one width, whatever comes later."""

    def __init__(self) -> None:
        self.least, self.most = np.inf, -np.inf
        self.end = 0.0
        """The magnitude at which the last bin ends; 0: only zeros so far."""
        self.counts = np.zeros(_BINS)

    def add(self, values: NDArray[Any]) -> None:
        self.least, self.most = min(self.least, float(values.min())), max(self.most, float(values.max()))
        largest = max(-self.least, self.most)
        self.end = self.end or largest
        while largest > self.end:  # two bins become one
            self.end *= 2
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(axis=1), np.zeros(_BINS // 2)])
        self.counts += np.histogram(np.abs(values), _BINS, (0.0, self.end or 1.0))[0]


def _entropy_end(counts: NDArray[Any]) -> float:
    """Return where to cut a histogram of magnitudes, 0-1 of it, so that 128 levels lose least of what the values tell.

    Least Kullback-Leibler divergence, after S. Migacz, "8-bit inference with TensorRT", GTC 2017. Zeros, of which ReLU
    makes most values, count as the bin beside them does (as in NVIDIA's pytorch-quantization): they need no level.
    """
    counts = counts.copy()
    counts[0] = counts[1]
    if not counts.any():
        return 1.0
    least, best = np.inf, _BINS
    for stop in range(_LEVELS, _BINS + 1, _LEVELS // 8):
        inside = counts[:stop]
        if not inside[:-1].any():  # all of it in one bin tells the same cut anywhere
            continue
        cut = inside.copy()
        cut[-1] += counts[stop:].sum()
        starts = np.linspace(0, stop, _LEVELS + 1).astype(int)
        held = np.add.reduceat(inside, starts[:-1])
        occupied = np.add.reduceat((inside > 0).astype(np.float64), starts[:-1])
        levels = np.repeat(held / np.maximum(occupied, 1), np.diff(starts)) * (inside > 0)
        seen = cut > 0
        p, q = cut[seen] / cut.sum(), np.maximum(levels[seen], 1e-9) / max(levels.sum(), 1e-9)
        divergence = float((p * np.log(p / q)).sum())
        if divergence < least:
            least, best = divergence, stop
    return best / _BINS
