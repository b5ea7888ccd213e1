"""ONNX Runtime sessions on the CPU: opened quietly, warmed up, their errors in our words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import ModelError, RunError, RuntimeMissingError
from engines.model_spec import ModelSpec

_FATAL_ONLY = 4
"""Everything ONNX Runtime would print below this severity arrives as an exception, or is not for users."""

PRECISIONS = ("fp32", "fp16", "int8")

DISABLED_OPTIMIZERS = ["WeightBiasQuantization"]
"""It quantises, with one scale for all channels, the layers that an int8 model left in float on purpose."""


def require_precision(runtime: str, precision: str | None) -> None:
    """Raise RuntimeMissingError for a precision that ONNX Runtime lacks kernels for, where detectors are concerned."""
    if precision is not None and precision not in PRECISIONS:
        raise RuntimeMissingError(
            f"runtime '{runtime}' runs no {precision}. Allowed there: {', '.join(PRECISIONS)}; {precision} is for "
            "runtime tensorrt."
        )


def open_session(model: Path, threads: int, rewritten: bytes | None = None, *, literal: bool = False) -> Any:
    """Return an InferenceSession of ``model`` with ``threads`` intra-op threads that do not spin.

    ``rewritten``: the same model, serialised, to be run in the file's place. ``literal``: quantised layers are computed
    in float between their quantising and its reverse, not fused into integer ones, which 8-bit floats do not have.

    Raises RuntimeMissingError without ONNX Runtime, ModelError where the model does not load.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise RuntimeMissingError(
            f"runtime 'cpu' needs ONNX Runtime: {error}. Install it: pip install \"onnxruntime\" "
            '(or the cpu extra: pip install "onpace[cpu]").'
        ) from error
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = _FATAL_ONLY
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if literal:
        settings.add_session_config_entry("session.disable_quant_qdq", "1")
        # From "extended" on, ONNX Runtime 1.31 computes with wrong 8-bit floats: a detector then finds nothing.
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    try:
        return onnxruntime.InferenceSession(
            rewritten or str(model),
            settings,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=DISABLED_OPTIMIZERS,
        )
    except Exception as error:  # ONNX Runtime's exceptions have no common base of their own
        raise ModelError(f"model {model}: ONNX Runtime cannot load it: {first_line(error)}{_hint(error)}") from error


def probe_shapes(session: Any, spec: ModelSpec, rows: int) -> dict[str, tuple[int, ...]]:
    """Warm the session up with one batch; return the outputs whose shape never changes, at ``rows`` pictures.

    An output counts as fixed when the file states its dimensions, the run agrees, and the graph does not suppress
    boxes (what remains then differs from picture to picture). Raises RunError.
    """
    picture = np.zeros((rows, 3, spec.input_height, spec.input_width), spec.image_input.dtype)
    feeds = {spec.image_input.name: picture, **sizes_fed(spec, rows)}
    names = [output.name for output in spec.outputs]
    try:
        outputs = session.run(names, feeds)
    except Exception as error:
        raise run_failed(spec, error) from error
    fixed = {}
    for output, array in zip(spec.outputs, outputs, strict=True):
        stated = len(output.shape) > 1 and None not in output.shape[1:]
        if stated and not spec.has_nms and array.shape == (rows, *output.shape[1:]):
            fixed[output.name] = tuple(array.shape)
    return fixed


def sizes_fed(spec: ModelSpec, rows: int) -> dict[str, NDArray[Any]]:
    """Return what to feed a DETR-style second input for ``rows`` pictures, by name; empty for other models.

    The model's own input size, so that boxes come out in pixels of the input and the letterbox leads back as always.
    """
    if spec.size_input is None:
        return {}
    size = np.array([[spec.input_width, spec.input_height]], spec.size_input.dtype)
    return {spec.size_input.name: np.tile(size, (rows, 1))}


def run_failed(spec: ModelSpec, error: Exception) -> RunError:
    """Return what to raise for an exception of a run."""
    return RunError(f"model {spec.name} failed in ONNX Runtime: {first_line(error)}")


def first_line(error: Exception) -> str:
    """Return the first line of what a library says, for messages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:400] if lines else type(error).__name__


def _hint(error: Exception) -> str:
    text = str(error)
    if "not a registered function/op" in text or "_TRT" in text:
        return " It uses an operator that is not part of ONNX: export it without plugins, or run it on TensorRT."
    if "NOT_IMPLEMENTED" in text:
        return " ONNX Runtime's CPU build lacks this operator in this type: export it in float32."
    return ""
