"""The smaller inputs that streams with ``adapt: resolution`` fall back to, and whether the model has any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.inspect_model import read_model_spec
from engines.model_spec import ModelSpec
from pipeline.config.values import SmallerInput
from pipeline.errors import ConfigError
from pipeline.samples import find_model

_SHARES = (0.75, 0.6, 0.5)
"""640 -> 480 -> 384 -> 320. Each has about 0.65 of the pixels, and so of the work, of the one before."""
_COARSEST_STRIDE = 32
"""Most detectors' coarsest grid: their inputs are multiples of it."""


@dataclass(frozen=True, slots=True)
class SizedModel:
    """A model's file, and what it is at one input size."""

    model: Path
    spec: ModelSpec


def input_size(spec: ModelSpec) -> tuple[int, int]:
    """Return width and height of what the model sees."""
    return spec.input_width, spec.input_height


def size_text(size: tuple[int, int]) -> str:
    """Return "416" or "640x384"."""
    width, height = size
    return str(width) if width == height else f"{width}x{height}"


def smaller_inputs(
    model: Path, spec: ModelSpec, wanted: Sequence[SmallerInput], facts: Mapping[str, object]
) -> list[SizedModel]:
    """Return the smaller inputs, the largest first: those ``wanted``, or by default steps where the size is open.

    Raises ConfigError where there are none to take or one does not belong to the model, ModelError for a bad file.
    """
    if not wanted:
        if not _takes_any_size(spec):
            raise ConfigError(
                f"adapt: resolution: the file of model {spec.name} takes {_times(spec)} and nothing smaller. Export it "
                "again with dynamic height and width; or export it at smaller sizes too, and name those files in "
                "infer.smaller, as in [model-416.onnx, model-320.onnx]."
            )
        wanted = default_sizes(spec)
    found = [_sized(model, spec, entry, facts) for entry in wanted]
    before = spec
    for one in found:
        if one.spec.input_width * one.spec.input_height >= before.input_width * before.input_height:
            raise ConfigError(
                f"infer.smaller: {one.spec.name} at {_times(one.spec)} is not smaller than {before.name} at "
                f"{_times(before)} before it. Write the largest first, each smaller than infer.model."
            )
        before = one.spec
    return found


def default_sizes(spec: ModelSpec) -> list[tuple[int, int]]:
    """Return three quarters, three fifths and half of the input's sides, in multiples of the model's coarsest grid."""
    stride = max((_COARSEST_STRIDE, *_strides(spec)))
    sizes: list[tuple[int, int]] = []
    for share in _SHARES:
        width, height = (max(stride, round(side * share / stride) * stride) for side in input_size(spec))
        last_width, last_height = sizes[-1] if sizes else input_size(spec)
        if width * height < last_width * last_height:
            sizes.append((width, height))
    return sizes


def _sized(model: Path, spec: ModelSpec, entry: SmallerInput, facts: Mapping[str, object]) -> SizedModel:
    if isinstance(entry, str):
        return _variant(find_model(entry), spec, facts)
    size = (entry, entry) if isinstance(entry, int) else entry
    if not _takes_any_size(spec):
        raise ConfigError(
            f"infer.smaller: {size_text(size)}: the file of model {spec.name} takes {_times(spec)} only. Name a file "
            "that was exported at that size, or export the model with dynamic height and width."
        )
    return SizedModel(model, read_model_spec(model, {**facts, "input_size": list(size)}))


def _variant(file: Path, spec: ModelSpec, facts: Mapping[str, object]) -> SizedModel:
    """Return the same model exported at another size. Raises ConfigError where it is another model."""
    stated = {key: value for key, value in facts.items() if key != "input_size"}
    variant = read_model_spec(file, stated)
    for what, its, ours in (
        ("family", variant.family, spec.family),
        ("classes", variant.class_names, spec.class_names),
    ):
        if its != ours:
            shown = (its, ours) if what == "family" else _difference(variant.class_names, spec.class_names)
            raise ConfigError(
                f"infer.smaller: {file.name} is not infer.model at another size: its {what} are {shown[0]}, not "
                f"{shown[1]}. Export both from the same weights."
            )
    return SizedModel(file, variant)


def _difference(its: Sequence[str], ours: Sequence[str]) -> tuple[str, str]:
    """Return how two lists of class names differ."""
    if len(its) != len(ours):
        return str(len(its)), str(len(ours))
    return next((f"'{a}'", f"'{b}'") for a, b in zip(its, ours, strict=True) if a != b)


def _takes_any_size(spec: ModelSpec) -> bool:
    return spec.origins.get("input_size") != "shape"


def _strides(spec: ModelSpec) -> tuple[int, ...]:
    strides = spec.head_options.get("strides")
    return tuple(strides) if isinstance(strides, list | tuple) else ()


def _times(spec: ModelSpec) -> str:
    return f"{spec.input_width}x{spec.input_height}"
