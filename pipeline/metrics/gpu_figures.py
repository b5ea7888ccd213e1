"""What the driver says of the GPUs (NVML, through nvidia-ml-py, the extra ``nvml``); nothing where there is none."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

Figure = tuple[str, str, float]
"""Metric, GPU index, value."""

_PERCENT = 0.01
_MILLIWATT = 0.001


class GpuFigures:
    """Every GPU that the driver shows. A figure that a GPU or driver does not have is left out, not zero."""

    def __init__(self, nvml: Any | None = None) -> None:
        """``nvml``: the library; None looks for it and for a driver, and finds no GPUs without them."""
        self._nvml, self._handles = nvml, []
        try:
            if self._nvml is None:
                self._nvml = importlib.import_module("pynvml")
            self._nvml.nvmlInit()
            self._handles = [
                self._nvml.nvmlDeviceGetHandleByIndex(index) for index in range(self._nvml.nvmlDeviceGetCount())
            ]
        except Exception:  # no library, no driver, no permission: no GPU for us
            self._handles = []

    def read(self) -> Iterator[Figure]:
        """Yield what every GPU shows now."""
        for index, handle in enumerate(self._handles):
            for metric, call, value in _CALLS:
                try:
                    yield metric, str(index), value(getattr(self._nvml, call)(handle))
                except Exception:  # NVMLError_NotSupported and its like: not every GPU has every figure
                    continue


_CALLS: tuple[tuple[str, str, Any], ...] = (
    ("onpace_gpu_utilisation_ratio", "nvmlDeviceGetUtilizationRates", lambda rates: _PERCENT * rates.gpu),
    ("onpace_gpu_decoder_utilisation_ratio", "nvmlDeviceGetDecoderUtilization", lambda pair: _PERCENT * pair[0]),
    ("onpace_gpu_memory_used_bytes", "nvmlDeviceGetMemoryInfo", lambda memory: float(memory.used)),
    ("onpace_gpu_memory_total_bytes", "nvmlDeviceGetMemoryInfo", lambda memory: float(memory.total)),
    ("onpace_gpu_power_watts", "nvmlDeviceGetPowerUsage", lambda milliwatts: _MILLIWATT * milliwatts),
)
