"""``typed_model``: one fp32 detector in, the same detector in another precision out, as an ONNX file.

The precision is in the file: TensorRT, ONNX Runtime on CUDA and the CPU runtime all read the same one, but for int8, of
which the CPU reads a form of its own with the same weights and ranges (``cpu_model``). Inputs and outputs stay float32,
but for fp16's pictures (``spec_of_typed``), so that what is known of the model (``ModelSpec``), preprocessing and heads
hold for every form.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from engines.cpu_session import sizes_fed
from engines.errors import ModelError
from engines.model_spec import ModelSpec
from engines.precision.float_types import LOW_TYPES, retype
from engines.precision.layers import Layers, find_layers
from engines.precision.prepare import BF16_OPSET, prepared
from engines.precision.quantise import float_on_gpus, for_cpu, in_eight_bit_floats, quantised
from engines.precision.ranges import Method, Ranges, calibrated_ranges

Precision = Literal["fp32", "fp16", "bf16", "int8", "fp8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "int8", "fp8")
CALIBRATED: tuple[Precision, ...] = ("int8", "fp8")
"""Those that take their ranges from pictures."""

RECIPE = 6
"""Part of every cache key: grows when the same input gives other bits."""


def no_pictures(precision: Precision) -> str:
    """Return what to tell who asks for ``precision`` without calibration."""
    return (
        f"{precision} takes its ranges from pictures. Give some with --calibration (infer.calibration in a "
        "configuration): a video, a folder of pictures or a recording, as the cameras will show them."
    )


@dataclass(frozen=True)
class Calibration:
    """What int8 takes its ranges from."""

    tensors: Iterable[NDArray[Any]]
    """Prepared pictures, each float32 ``[N, 3, H, W]`` as the model takes them. Read through once for every
    int8 model that is made, and not at all where one was made before."""
    digest: str
    """Differs when the pictures differ."""
    method: Method = "percentile"
    percentile: float = 99.999
    """50 to 100: the part of each tensor's values that its range holds."""
    pictures: int = 32
    """How many were asked for; short videos have fewer. Enough for detectors: ranges of a layer hardly change with more
    of the same scenes."""


@dataclass(frozen=True, slots=True)
class TypedModel:
    """A detector in one precision."""

    path: Path
    precision: Precision
    left_in_float: tuple[str, ...]
    """Nodes that stay float32 on purpose."""


def typed_model(
    model: Path, spec: ModelSpec, precision: Precision, calibration: Calibration | None, out: Path
) -> TypedModel:
    """Write ``model`` (fp32) in ``precision`` to ``out``, atomically; return what it is.

    ``calibration`` is needed for int8 and fp8, and not looked at otherwise. What int8 writes is for TensorRT and
    CUDA; the CPU runs ``cpu_model`` of it. Raises ModelError for a model that is fp16 or int8 already, that has
    operators whose types cannot be changed, and for int8 without pictures.
    """
    proto = prepared(model, BF16_OPSET) if precision == "bf16" else prepared(model)
    layers = find_layers(proto.graph)
    stay_float = layers.tail
    try:
        if precision in LOW_TYPES:
            proto = retype(proto, LOW_TYPES[precision], stay_float, _inputs_in(precision, spec))
        elif precision in CALIBRATED:
            inner = _inner(proto, layers)
            stay_float = float_on_gpus(proto.graph, inner, layers.first | layers.last)
            if calibration is None:
                raise ModelError(no_pictures(precision))
            ranges = _ranges(proto, spec, calibration)
            on_cpus = frozenset(node.name for node in proto.graph.node) - inner
            proto = quantised(proto, ranges, stay_float, stay_float_on_cpus=on_cpus)
            proto = in_eight_bit_floats(proto) if precision == "fp8" else proto
        elif precision != "fp32":
            raise ModelError(f"precision '{precision}' is unknown. Allowed: {', '.join(PRECISIONS)}")
    except ModelError as error:
        raise ModelError(f"model {model}: cannot be made {precision}: {error}") from error
    _write(proto, out)
    return TypedModel(out, precision, tuple(sorted(stay_float)))


def spec_of_typed(spec: ModelSpec, precision: Precision | None) -> ModelSpec:
    """Return what ``typed_model`` makes of a model of ``spec``: fp16 takes its pictures in half precision.

    What writes them rounds them. To cast 16 of 640x640 took TensorRT 77 of YOLOv8n's 2,656 microseconds on an H100.
    """
    if precision != "fp16" or spec.image_input.dtype != "float32":
        return spec
    return replace(spec, image_input=replace(spec.image_input, dtype="float16"))


def _inputs_in(precision: Precision, spec: ModelSpec) -> frozenset[str]:
    """Return the inputs that become ``precision`` as well; bf16 none, for want of such arrays on the host."""
    changed = spec_of_typed(spec, precision) != spec
    return frozenset({spec.image_input.name} if changed else ())


def cpu_model(typed: Path, out: Path) -> Path:
    """Write the int8 model ``typed`` as ONNX Runtime's CPU kernels want it to ``out``, atomically; return ``out``.

    Same weights, same ranges, Q/DQ nodes in other places. Raises ModelError where ``typed`` is not from here.
    """
    try:
        _write(for_cpu(onnx.load(str(typed))), out)
    except ModelError as error:
        raise ModelError(f"model {typed}: {error}.") from error
    return out


def _inner(proto: Any, layers: Layers) -> frozenset[str]:
    inner = layers.body - layers.first - layers.last
    if not any(node.op_type == "Conv" and node.name in inner for node in proto.graph.node):
        raise ModelError("it has no convolutions besides its first and last, so eight bits would speed nothing up.")
    return inner


def _ranges(proto: Any, spec: ModelSpec, calibration: Calibration) -> Ranges:
    if not 50 <= calibration.percentile <= 100:
        raise ModelError(f"percentile {calibration.percentile}: allowed is 50 to 100.")
    rows = spec.max_batch or 1  # a file that fixes its batch takes whole ones: the same picture in each row
    tensors = (tensor if len(tensor) == rows else np.repeat(tensor[:1], rows, axis=0) for tensor in calibration.tensors)
    feeds = ({spec.image_input.name: tensor, **sizes_fed(spec, rows)} for tensor in tensors)
    return calibrated_ranges(proto, feeds, calibration.method, calibration.percentile)


def _write(proto: Any, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f"{out.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        onnx.save(proto, str(part))
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
