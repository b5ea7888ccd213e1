"""What a precision costs in accuracy, and the refusal of one that costs too much."""

from __future__ import annotations

from pathlib import Path

from engines.model_spec import ModelSpec
from engines.precision.kept import kept_model
from engines.precision.typed_model import Calibration, Precision, spec_of_typed
from pipeline.accuracy.average_precision import Accuracy
from pipeline.accuracy.dataset import Dataset
from pipeline.accuracy.evaluate import evaluate
from pipeline.errors import AccuracyLostError, InputError


def points_lost(before: Accuracy, after: Accuracy) -> float:
    """Return the points of AP (0-100) that are lost; negative where some are gained."""
    return 100 * (before.ap - after.ap)


def refuse_loss(what: str, before: Accuracy, after: Accuracy, max_ap_loss: float) -> None:
    """Raise AccuracyLostError where more than ``max_ap_loss`` points of AP are lost. ``what``: "int8 of yolov8n"."""
    lost = points_lost(before, after)
    if lost > max_ap_loss:
        raise AccuracyLostError(
            f"{what} loses {lost:.1f} points of AP ({before.ap:.3f} -> {after.ap:.3f}); allowed are {max_ap_loss:g} "
            "(--max-ap-loss). Calibrate on more of what the cameras will show, take fp16 or fp32, or allow more."
        )


def account_for(
    model: Path,
    spec: ModelSpec,
    dataset: Dataset,
    precision: Precision | None,
    calibration: Calibration | None,
    *,
    max_ap_loss: float | None = None,
) -> tuple[Accuracy, Accuracy]:
    """Return the accuracy of ``model`` as its file is, and of the typed file that TensorRT's plan is made of.

    Both are run by the CPU, literally: the form that the CPU itself would take has other layers in eight bits. Raises
    AccuracyLostError where more than ``max_ap_loss`` points of AP are lost, InputError for bf16, which no CPU runs, and
    whatever ``evaluate`` raises.
    """
    if precision == "bf16":
        raise InputError(
            "bf16 cannot be measured before it is built: ONNX Runtime has no such convolutions. Build it, then: "
            f"onpace compare {model} --runtimes cpu,tensorrt --precisions fp32,bf16 --dataset FOLDER"
        )
    typed = model if precision is None else kept_model(model, spec, precision, calibration)
    before, _ = evaluate(model, spec, dataset, runtime="cpu")
    after, _ = evaluate(typed, spec_of_typed(spec, precision), dataset, runtime="cpu", literal=True)
    if max_ap_loss is not None:
        refuse_loss(f"{precision or 'this'} of {spec.name}", before, after, max_ap_loss)
    return before, after
