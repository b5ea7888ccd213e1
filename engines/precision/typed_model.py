"""``typed_model``: one fp32 detector in, the same detector in another precision out, as an ONNX file.

The precision is in the file: TensorRT, ONNX Runtime on CUDA and the CPU runtime all read the same one. Inputs and
outputs stay float32, so that what is known of the model (``ModelSpec``), preprocessing and heads hold for every form.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import onnx
from numpy.typing import NDArray

from engines.errors import ModelError
from engines.model_spec import ModelSpec
from engines.precision.float_types import LOW_TYPES, retype
from engines.precision.head_tail import head_tail
from engines.precision.prepare import prepared

Precision = Literal["fp32", "fp16", "bf16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "int8")

RECIPE = 1
"""Part of every cache key: grows when the same input gives other bits."""


@dataclass(frozen=True)
class Calibration:
    """What int8 takes its ranges from."""

    tensors: Sequence[NDArray[Any]]
    """Prepared pictures, each float32 ``[N, 3, H, W]`` as the model takes them."""
    digest: str
    """Hex; differs when the pictures differ."""
    method: Literal["percentile", "entropy", "minmax"] = "percentile"
    """percentile: the range that holds ``percentile`` of the values; entropy: the one that loses least information."""
    percentile: float = 99.99
    """50 to 100."""


@dataclass(frozen=True, slots=True)
class TypedModel:
    """A detector in one precision."""

    path: Path
    precision: Precision
    left_in_float: tuple[str, ...]
    """Nodes that stayed float32: the head's arithmetic, and what the precision does not suit."""


def typed_model(
    model: Path, spec: ModelSpec, precision: Precision, calibration: Calibration | None, out: Path
) -> TypedModel:
    """Write ``model`` (fp32) in ``precision`` to ``out``, atomically; return what it is.

    ``calibration`` is needed for int8 and not looked at otherwise. Raises ModelError for a model that is fp16 or int8
    already, that has operators whose types cannot be changed, and for int8 without calibration pictures.
    """
    proto = prepared(model)
    tail = head_tail(proto.graph)
    if precision in LOW_TYPES:
        try:
            proto = retype(proto, LOW_TYPES[precision], tail, keep_io=True)
        except ModelError as error:
            raise ModelError(f"model {model}: cannot be made {precision}: {error}.") from error
    elif precision != "fp32":
        raise ModelError(f"precision '{precision}' is unknown. Allowed: {', '.join(PRECISIONS)}.")
    _write(proto, out)
    return TypedModel(out, precision, tuple(sorted(tail)))


def _write(proto: Any, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f"{out.name}.{os.getpid()}.part")
    try:
        onnx.save(proto, str(part))
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
