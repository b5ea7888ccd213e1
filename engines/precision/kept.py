"""Typed models that were made before, found by everything that went into them."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import re
from collections.abc import Iterable
from pathlib import Path
from time import monotonic
from typing import Literal

import onnx
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from engines.builds import Builds
from engines.cache_folder import cache_folder
from engines.model_file import read_model_file, tensors_of
from engines.model_spec import ModelSpec
from engines.precision.prepare import refuse_typed
from engines.precision.typed_model import CALIBRATED, RECIPE, Calibration, Precision, cpu_model, typed_model

Form = Literal["typed", "cpu"]
"""typed: for TensorRT and CUDA; cpu: what ONNX Runtime's CPU kernels want (differs for int8 only)."""

_log = logging.getLogger("onpace.precision")


def kept_model(
    model: Path,
    spec: ModelSpec,
    precision: Precision,
    calibration: Calibration | None,
    *,
    form: Form = "typed",
    folder: Path | None = None,
    count: tuple[Builds, str] | None = None,
) -> Path:
    """Return ``model`` in ``precision``: as it was made before, or made now. fp32 is the model itself.

    Kept in ``folder`` (default: ``cache_folder() / "models"``) under a name that changes with the model's bytes, its
    weights beside it, the precision, the calibration and the libraries, so that nothing stale is ever found. ``count``:
    where it is counted whether it was made, and for which runtime. Raises ModelError as ``typed_model`` does.
    """
    if precision == "fp32":
        refuse_typed(model)
        return model
    typed, for_cpu = _files(model, spec, precision, calibration, folder)
    builds, runtime = count or (Builds(), "")
    made = {typed, for_cpu}
    if _are_whole(made):
        builds.found(runtime, precision)
    else:
        _log.info("making %s of %s%s", precision, spec.name, " (calibrating)" if precision in CALIBRATED else "")
        begun = monotonic()
        with builds.making(runtime, precision):
            typed_model(model, spec, precision, calibration, typed)
            if for_cpu != typed:
                cpu_model(typed, for_cpu)
        facts = {"seconds": monotonic() - begun, "sha256": {file.name: _sha256(file) for file in made}}
        _facts(typed).write_text(json.dumps(facts))
    return for_cpu if form == "cpu" else typed


def is_kept(model: Path, spec: ModelSpec, precision: Precision, calibration: Calibration | None) -> bool:
    """Whether ``kept_model`` would find ``model`` in ``precision`` as it was made before, whole."""
    return precision == "fp32" or _are_whole(set(_files(model, spec, precision, calibration, None)))


def _files(
    model: Path, spec: ModelSpec, precision: Precision, calibration: Calibration | None, folder: Path | None
) -> tuple[Path, Path]:
    """Return where the typed form of ``model`` is kept, and the one for the CPU; they differ for int8 only."""
    folder = folder or cache_folder() / "models"
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", spec.name)[:60]
    typed = folder / f"{name}-{precision}-{_key(model, precision, calibration)}.onnx"
    return typed, typed.with_suffix(".cpu.onnx") if precision == "int8" else typed


def made_seconds(kept: Path) -> float | None:
    """Return how long it took to make what ``kept_model`` returned; None where that is not known."""
    try:
        return float(json.loads(_facts(kept).read_text())["seconds"])
    except (OSError, ValueError, KeyError):
        return None


def _are_whole(made: Iterable[Path]) -> bool:
    """Whether the files are those that were made: a damaged one is made again, like one that is missing."""
    try:
        return all(json.loads(_facts(file).read_text())["sha256"][file.name] == _sha256(file) for file in made)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _facts(kept: Path) -> Path:
    return kept.with_name(kept.name.removesuffix(".onnx").removesuffix(".cpu") + ".json")


def model_digest(model: Path) -> str:
    """Return the SHA-256 of a model's bytes, weights in files beside it included, hex. Raises ModelError."""
    file = read_model_file(model)
    beside = {ExternalDataInfo(one).location for one in tensors_of(file.proto.graph) if uses_external_data(one)}
    digest = hashlib.sha256(file.sha256.encode())
    for location in sorted(beside):
        with (model.parent / location).open("rb") as weights:
            digest.update(location.encode())
            for block in iter(lambda: weights.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()


def made_with(precision: Precision | None) -> str | None:
    """Return the versions of the libraries that make a model in ``precision``; None where it runs as its file is."""
    if precision in (None, "fp32"):
        return None
    made = f"onnx {onnx.__version__}"
    return f"{made}, onnxruntime {_version_of_onnxruntime()}" if precision in CALIBRATED else made


def _key(model: Path, precision: Precision, calibration: Calibration | None) -> str:
    ingredients: dict[str, object] = {
        "model": model_digest(model),
        "precision": precision,
        "recipe": RECIPE,
        "made_with": made_with(precision),
    }
    if precision in CALIBRATED and calibration is not None:
        ingredients["calibration"] = [calibration.digest, calibration.method, calibration.percentile]
    return hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()[:24]


def _version_of_onnxruntime() -> str:
    for distribution in ("onnxruntime", "onnxruntime-gpu"):
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "unknown"
