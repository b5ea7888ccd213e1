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

_SAMPLED = 4096
"""Values of a tensor that entropy looks at in each picture."""
_BINS, _LEVELS = 1024, 128


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
        self._values: dict[str, list[NDArray[Any]]] = {}
        self._random = np.random.default_rng(0)

    def add(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        for name, array in arrays.items():
            flat = array.ravel()
            if flat.size > _SAMPLED:
                flat = flat[self._random.integers(0, flat.size, _SAMPLED)]
            if flat.size:
                self._values.setdefault(name, []).append(flat.copy())

    def ranges(self, *, widest: bool) -> Ranges:
        found = {}
        for name, parts in self._values.items():
            values = np.concatenate(parts)
            end = _entropy_end(np.abs(values))
            found[name] = (max(float(values.min()), -end), min(float(values.max()), end))
        return found


def _entropy_end(magnitudes: NDArray[Any]) -> float:
    """Return where to cut ``magnitudes`` so that 128 levels tell least less than the values themselves.

    Least Kullback-Leibler divergence, after S. Migacz, "8-bit inference with TensorRT", GTC 2017.
    """
    largest = float(magnitudes.max())
    counts = np.histogram(magnitudes, _BINS, (0.0, largest or 1.0))[0].astype(np.float64)
    least, best = np.inf, _BINS
    for stop in range(_LEVELS, _BINS + 1, _LEVELS // 8):
        inside = counts[:stop]
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
    return largest * best / _BINS
