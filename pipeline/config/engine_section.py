"""The section ``engine``: TensorRT's plans."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from engines.errors import ModelError
from engines.runtime import PlanOptions
from engines.shape_profile import ShapeProfile
from engines.trt.options import BuildOptions
from pipeline.config.values import Section, Switch, Whole


class EngineSection(Section):
    """TensorRT's plans: when they are built, how, and where they are kept."""

    build: Literal["aside", "wait", "never"] = "aside"
    """Where a plan is missing: aside runs on the next best runtime while it is built; wait; never."""
    store: str | None = None
    """Folder of the plans (relative to this file). null: the user's cache."""
    batch: str | None = None
    """Batches to build for, MIN:OPT:MAX. null: 1 to 8, or to infer.batch_size where that is more."""
    optimisation_level: Whole | None = Field(None, ge=0, le=5)
    """How hard to look for fast kernels. null: as the library does, 3."""
    hardware_compatible: Switch = False
    """Whether the plan runs on every GPU from Ampere on, somewhat slower."""
    version_compatible: Switch = False
    """Whether the plan runs in later versions of TensorRT, too."""
    workspace_mib: Whole | None = Field(None, ge=1, le=1_048_576)
    """Most scratch memory of one kernel, in MiB. null: as much as the GPU has."""
    cuda_graphs: Switch = True
    """Whether a batch's whole way on the GPU is launched as one recorded graph, on TensorRT and CUDA alike."""
    slots: Whole = Field(3, ge=1, le=16)
    """Batches that each process has in hand on the GPU at a time, on TensorRT and CUDA alike."""

    @field_validator("batch")
    @classmethod
    def _is_a_profile(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                ShapeProfile.parse(value)
            except ModelError as error:
                raise PydanticCustomError("batch_expected", "{reason}", {"reason": str(error)}) from None
        return value

    def options(self) -> PlanOptions:
        """Return it as ``engines`` takes it."""
        return PlanOptions(
            store=None if self.store is None else Path(self.store),
            shapes=None if self.batch is None else ShapeProfile.parse(self.batch),
            build=BuildOptions(
                optimisation_level=self.optimisation_level,
                hardware_compatible=self.hardware_compatible,
                version_compatible=self.version_compatible,
                workspace_bytes=None if self.workspace_mib is None else self.workspace_mib << 20,
            ),
            cuda_graphs=self.cuda_graphs,
            slots=self.slots,
        )
