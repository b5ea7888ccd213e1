"""What makes one plan differ from another. Any of it changed gives another key, so a stale plan is never found."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from engines.device import Gpu
from engines.shape_profile import ShapeProfile
from engines.trt.options import BuildOptions

ANY_LATER = "this or later"
"""Version of a plan that later versions than the one that built it run, too."""


@dataclass(frozen=True)
class PlanKey:
    """Every ingredient of a plan."""

    model: str
    """Digest of the model file and of the files that hold its weights."""
    runtime: str
    """The library: "tensorrt" or "tensorrt_rtx"."""
    version: str
    """Of the library, or ``ANY_LATER``."""
    gpu: str
    """Name and compute capability of the GPU, or how far the plan is portable."""
    precision: str
    calibration: str
    """Digest of the pictures and the method that int8 took its ranges from; empty otherwise."""
    recipe: int
    """Version of what makes the typed model."""
    made_with: str | None
    """Versions of the libraries that make it; None for a model that runs as its file is."""
    shapes: ShapeProfile
    input_size: tuple[int, int]
    """Width, height: what an open input size is fixed to."""
    options: BuildOptions

    @property
    def digest(self) -> str:
        """The key: 32 hex digits."""
        return digest_of(self.describe())

    def describe(self) -> dict[str, Any]:
        """Return the ingredients as plain data, for the manifest."""
        return asdict(self)


def digest_of(ingredients: dict[str, Any]) -> str:
    """Return the key of what ``PlanKey.describe`` returned, read back from a manifest or not: 32 hex digits."""
    return hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()[:32]


def gpu_identity(gpu: Gpu | None, options: BuildOptions) -> str:
    """Return what a plan says of the GPU that it is for. None: it was built without one, and runs where it can."""
    if gpu is None:
        return "portable"
    major, minor = gpu.compute_capability
    return "ampere or later" if options.hardware_compatible else f"{gpu.name}, {major}.{minor}"
