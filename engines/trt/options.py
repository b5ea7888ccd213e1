"""What a plan may be built with besides the model: plain data that is part of the plan's key."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """Options of the builder. Every one of them makes another plan."""

    optimisation_level: int | None = None
    """0-5: how many kernels are tried; None takes the library's own (3). Higher builds longer, and may run faster."""
    hardware_compatible: bool = False
    """The plan runs on every GPU from Ampere on, somewhat slower, instead of on this kind alone."""
    version_compatible: bool = False
    """The plan runs in later versions of TensorRT too."""
    workspace_bytes: int | None = None
    """Most scratch memory of one kernel; None: as much as the GPU has."""
