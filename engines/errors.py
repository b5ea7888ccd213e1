"""The exceptions of ``engines``. Each message says what, the value, what is allowed, what to do.

EngineError
├── ModelError            a model file that cannot be used, or a fact about it that is missing: exit code 2
│   ├── PlanError         a plan that cannot be used: cut short, altered, of another GPU or version
│   │   └── PlanMissingError   none was built yet, and none may be built now
│   └── PlanBuildError    the library took the model, and failed to build a plan of it
├── RuntimeMissingError   the asked-for runtime is not installed or has no device: exit code 2
└── RunError              a model failed while running (not-a-number outputs)
    ├── DeviceMemoryError the GPU's memory is too small; says the batch size that would fit where that is known
    └── DeviceLostError   nothing works on the GPU any more in this process: only a new process helps
"""

from __future__ import annotations


class EngineError(Exception):
    """Base of everything that ``engines`` raises on purpose."""


class ModelError(EngineError):
    """The model file cannot be used as it is."""


class PlanError(ModelError):
    """A plan that was built earlier cannot be used as it is."""


class PlanMissingError(PlanError):
    """There is no plan for this model on this GPU yet."""


class PlanBuildError(ModelError):
    """The library took the model, and failed to build a plan of it."""


class RuntimeMissingError(EngineError):
    """The runtime that was asked for is not here."""


class RunError(EngineError):
    """A model failed while running."""


class DeviceMemoryError(RunError):
    """The GPU has too little memory left."""


class DeviceLostError(RunError):
    """CUDA's context of this process is broken: every later call fails, too. A new process gets a new one."""
