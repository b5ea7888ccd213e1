"""The exceptions of ``engines``. Each message says what, the value, what is allowed, what to do.

EngineError
├── ModelError            a model file that cannot be used, or a fact about it that is missing: exit code 2
├── RuntimeMissingError   the asked-for runtime is not installed or has no device: exit code 2
└── RunError              a model failed while running (out of memory, device lost, not-a-number outputs)
"""

from __future__ import annotations


class EngineError(Exception):
    """Base of everything that ``engines`` raises on purpose."""


class ModelError(EngineError):
    """The model file cannot be used as it is."""


class RuntimeMissingError(EngineError):
    """The runtime that was asked for is not here."""


class RunError(EngineError):
    """A model failed while running."""
