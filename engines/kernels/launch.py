"""Launches a kernel: the one place that knows how."""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import Any

from engines.device import CudaStream


def launch(
    cuda_stream: CudaStream, kernel: Any, grid: tuple[int, ...], block: tuple[int, ...], *arguments: object
) -> None:
    """Enqueue ``kernel`` on ``cuda_stream`` and return at once.

    Device addresses are ints; other arguments NumPy scalars of the parameter's own type.
    """
    core = _core()
    core.launch(cuda_stream.stream, _config(grid, block), kernel, *arguments)


@lru_cache
def _core() -> Any:
    return importlib.import_module("cuda.core")


@lru_cache(maxsize=256)
def _config(grid: tuple[int, ...], block: tuple[int, ...]) -> Any:
    return _core().LaunchConfig(grid=grid, block=block)
