"""Notices outputs that are not numbers: half precision that overflowed finds nothing, and says nothing of it."""

from __future__ import annotations

import logging
import threading

import numpy as np

from engines.runtime import Tensors
from pipeline.postprocess.best_class import NUMBERS_REMEDY

_SAMPLES = 512
"""Values of an output that are looked at, spread over all of it: what overflows, overflows in many places."""

_log = logging.getLogger("onpace.infer")


class NotNumbers:
    """Counts the runs whose outputs are not numbers; says so at the first, and how many at the end. Thread-safe."""

    def __init__(self) -> None:
        self.runs = 0
        self._lock = threading.Lock()

    def check(self, outputs: Tensors) -> None:
        """Look at a sample of the outputs of one run."""
        for name, array in outputs.items():
            if array.dtype.kind == "f" and np.isnan(array.reshape(-1)[:: max(1, array.size // _SAMPLES) | 1]).any():
                with self._lock:
                    self.runs += 1
                    first = self.runs == 1
                if first:
                    _log.warning(
                        "the model's output '%s' is not a number (NaN), so nothing is found there. %s",
                        name,
                        NUMBERS_REMEDY,
                    )
                return

    def close(self) -> None:
        """Say how often it happened."""
        if self.runs > 1:
            _log.warning("%d runs of the model gave what is not a number", self.runs)
        self.runs = 0
