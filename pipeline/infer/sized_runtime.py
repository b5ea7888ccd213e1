"""One model opened at several input sizes: each slot can run a batch at any of them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from numpy.typing import NDArray

from engines.model_spec import ModelSpec
from engines.runtime import DeviceSlot, Runtime, Slot, Tensors
from pipeline.infer.input_sizes import input_size, size_text

_ROUNDS = 3


class SizedSlot:
    """A slot of the full size, and beside it one of each smaller size. One of them runs at a time."""

    def __init__(self, sizes: Sequence[tuple[ModelSpec, Slot]]) -> None:
        self.sizes = tuple(sizes)
        """Full size first."""

    @property
    def input(self) -> NDArray[Any]:
        """The full size's input."""
        return self.sizes[0][1].input

    def run(self, batch_size: int, extra: Tensors | None = None) -> Tensors:
        """Run at full size."""
        return self.sizes[0][1].run(batch_size, extra)


class SizedRuntime:
    """A runtime, and the same model at smaller inputs on the same runtime. All of it is warm from the start."""

    def __init__(self, full: Runtime, spec: ModelSpec, smaller: Sequence[tuple[ModelSpec, Runtime]]) -> None:
        """``full`` and ``smaller`` belong to this object from now on."""
        self._runtimes = (full, *(runtime for _, runtime in smaller))
        self.specs = (spec, *(spec for spec, _ in smaller))
        """Full size first."""
        self.name = full.name
        self.max_batch = min(runtime.max_batch for runtime in self._runtimes)
        self.concurrent_runs = full.concurrent_runs
        self.file: Path = full.file
        self.build_seconds = full.build_seconds
        gate = threading.Lock() if full.concurrent_runs < len(full.slots) else None
        rows = zip(*(runtime.slots for runtime in self._runtimes), strict=True)
        self.slots: tuple[Slot, ...] = tuple(
            SizedSlot([(spec, _gated(slot, gate)) for spec, slot in zip(self.specs, row, strict=True)]) for row in rows
        )
        self.costs = tuple(_costs([runtime.slots[0] for runtime in self._runtimes], self.max_batch))
        """What a frame costs at each size, as a share of the full size."""

    def describe(self) -> str:
        """One line for people."""
        sizes = ", ".join(
            f"{size_text(input_size(spec))} ({cost:.0%} of the work)".replace("%", " %")
            for spec, cost in zip(self.specs[1:], self.costs[1:], strict=True)
        )
        return f"{self._runtimes[0].describe()}; under overload at {sizes}"

    def close(self) -> None:
        """Give everything back. Closing twice is safe."""
        for runtime in reversed(self._runtimes):
            runtime.close()

    def __enter__(self) -> SizedRuntime:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def gpu_slot(runtime: Runtime) -> DeviceSlot | None:
    """Return a slot of ``runtime`` that is on a GPU; None where it runs on the CPU."""
    slots = (slot.sizes[0][1] if isinstance(slot, SizedSlot) else slot for slot in runtime.slots)
    return next((slot for slot in slots if isinstance(slot, DeviceSlot)), None)


class _Gated:
    """A slot that runs only while no other that shares its gate does: a run that takes all cores."""

    def __init__(self, slot: Slot, gate: threading.Lock) -> None:
        self._slot = slot
        self._gate = gate

    @property
    def input(self) -> NDArray[Any]:
        return self._slot.input

    def run(self, batch_size: int, extra: Tensors | None = None) -> Tensors:
        with self._gate:
            return self._slot.run(batch_size, extra)


def _gated(slot: Slot, gate: threading.Lock | None) -> Slot:
    return slot if gate is None or isinstance(slot, DeviceSlot) else _Gated(slot, gate)


def _costs(slots: Sequence[Slot], batch: int) -> list[float]:
    """Return the time of a run at each size over that at the first. In turns, so that other load falls on all."""
    seconds = [float("inf")] * len(slots)
    for _ in range(_ROUNDS):
        for place, slot in enumerate(slots):
            begun = monotonic()
            slot.run(batch)
            seconds[place] = min(seconds[place], monotonic() - begun)
    return [min(1.0, one / seconds[0]) for one in seconds]
