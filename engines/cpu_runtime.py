"""The CPU runtime: ONNX Runtime, as several narrow runs at once or one wide run at a time.

Two shapes, chosen at start:

- *throughput*: one session with one intra-op thread, run from as many slots as there are cores. One copy of the
  weights, no waiting at the end of every operator for the slowest thread.
- *latency*: one session with every core, one run at a time; its second slot prepares the next batch meanwhile.
  For one live stream throughput's session is kept beside it, for the times when that is used up (``shape_by_load``).

A model whose run is over in less than half a millisecond is run as for throughput, from one slot fewer.

Threads never spin while they wait: decoding and preprocessing need those cores. Batches do not pay on a CPU (batches
of 4 gave 0.83 of the pictures a second that single ones gave; YOLOX-nano at 416 on two cores, by ``python -m
tests.benchmarks.bench_runtime MODEL --batch 4``), so ``max_batch`` is 1 unless it is asked for.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.cores import usable_cores
from engines.cpu_session import open_session, probe_shapes, require_precision, run_failed, sizes_fed
from engines.errors import RunError
from engines.faster_graph import faster_graph
from engines.faster_shape import Shape, faster_shape, run_together
from engines.model_spec import ModelSpec
from engines.precision.kept import kept_model, made_seconds
from engines.precision.typed_model import spec_of_typed
from engines.runtime import RuntimeOptions, Slot, Tensors
from engines.shape_by_load import EitherSlot, ShapeByLoad


class CpuRuntime:
    """A detector on the CPU. Raises RuntimeMissingError without ONNX Runtime, ModelError where it does not load."""

    def __init__(self, model: Path, spec: ModelSpec, options: RuntimeOptions) -> None:
        self.name = "cpu"
        require_precision(self.name, options.precision)
        self._precision = options.precision
        if options.precision is not None:
            counted = (options.builds, self.name)
            model = kept_model(model, spec, options.precision, options.calibration, form="cpu", count=counted)
            spec = spec_of_typed(spec, options.precision)
        made = options.precision not in (None, "fp32")
        self.build_seconds: float | None = made_seconds(model) if made else 0.0
        self.file = model
        self.max_batch = _max_batch(spec, options)
        self._spec = spec
        self._threads = options.threads or usable_cores()
        rows = spec.max_batch or self.max_batch
        rewritten = faster_graph(model)
        wanted, self._why = _shape_by_rule(options, self._threads)
        if wanted is None:
            live = options.live and options.streams == 1
            wanted, self._why, narrow, wide = self._measure(
                model, rewritten, rows, latency_counts=live, literal=options.literal
            )
            if wanted == "by_load" and options.one_shape:
                wanted = "latency"
        else:
            threads = 1 if wanted == "throughput" else self._threads
            narrow = wide = open_session(model, threads, rewritten, literal=options.literal)
        self._shape: Shape = wanted
        session = wide if wanted in ("latency", "by_load") else narrow
        fixed = probe_shapes(session, spec, rows)
        gate = threading.Lock() if wanted == "latency" else None
        # What feeds short runs needs as much of the cores as they do.
        count = {"latency": 2, "short": max(1, self._threads - 1)}.get(wanted, self._threads)
        self._slots = [CpuSlot(session, spec, rows, fixed, gate) for _ in range(count)]
        self.slots: tuple[Slot, ...] = tuple(self._slots)
        self._by_load: ShapeByLoad | None = None
        if wanted == "by_load":
            self._by_load = by_load = ShapeByLoad()
            beside = [CpuSlot(narrow, spec, rows, fixed, None, slot.input) for slot in self._slots]
            self.slots = tuple(EitherSlot(*pair, by_load) for pair in zip(self._slots, beside, strict=True))
            self._slots += beside
        # At once, because concurrent runs each need memory of their own, which the first frames should not wait for.
        run_together([slot.run for slot in self._slots], rows)

    @property
    def concurrent_runs(self) -> int:
        """Runs that go on at the same time now."""
        one = self._shape == "latency" or (self._by_load is not None and self._by_load.wide)
        return 1 if one else len(self.slots)

    @staticmethod
    def why_not() -> str | None:
        """Return why this runtime cannot be used here; None where it can."""
        try:
            import onnxruntime  # noqa: F401
        except ImportError as error:
            return f"ONNX Runtime is missing: {error}."
        return None

    def describe(self) -> str:
        """One line for people."""
        if self._shape in ("latency", "by_load"):
            what = f"one run of {self._threads} threads at a time, {len(self.slots)} slots"
            if self._by_load is not None:
                what += " (of one thread each while that is used up)"
        else:
            what = f"{len(self.slots)} slots of one thread each, one session"
        batch = f"batch {self.max_batch}" + (" (fixed in the file)" if self._spec.max_batch else "")
        precision = f"{self._precision}, " if self._precision else ""
        return f"ONNX Runtime on the CPU: {precision}{what}, {batch}; {self._shape}: {self._why}"

    def close(self) -> None:
        """Give the session back."""
        for slot in self._slots:
            slot.close()

    def __enter__(self) -> CpuRuntime:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _measure(
        self, model: Path, rewritten: bytes | None, rows: int, *, latency_counts: bool, literal: bool
    ) -> tuple[Shape, str, Any, Any]:
        """Try both shapes on this machine; return the faster, why, and the sessions of narrow and of wide runs."""
        narrow, wide = (open_session(model, count, rewritten, literal=literal) for count in (1, self._threads))
        probe_shapes(narrow, self._spec, rows)
        probe_shapes(wide, self._spec, rows)
        slots = [CpuSlot(narrow, self._spec, rows, {}, None) for _ in range(self._threads)]
        whole = CpuSlot(wide, self._spec, rows, {}, None)
        shape, why = faster_shape([slot.run for slot in slots], whole.run, latency_counts=latency_counts)
        return shape, why, narrow, wide


class CpuSlot:
    """One place for one batch: an input tensor and, where shapes are fixed, output tensors, bound once."""

    def __init__(
        self,
        session: Any,
        spec: ModelSpec,
        rows: int,
        fixed: dict[str, tuple[int, ...]],
        gate: threading.Lock | None,
        tensor: NDArray[Any] | None = None,
    ) -> None:
        """``rows``: the batch to allocate; ``fixed``: outputs that always have this shape (at ``rows``).

        ``tensor``: an input to share; None makes one.
        """
        self._session: Any = session
        self._spec = spec
        self._gate = gate
        image = spec.image_input
        shape = (rows, 3, spec.input_height, spec.input_width)
        self.input: NDArray[Any] = np.zeros(shape, image.dtype) if tensor is None else tensor
        self._sizes = sizes_fed(spec, rows)
        dtypes = {output.name: output.dtype for output in spec.outputs}
        self._outputs = {name: np.zeros(shape, dtypes[name]) for name, shape in fixed.items()}
        self._bindings: dict[int, Any] = {}

    def run(self, batch_size: int, extra: Tensors | None = None) -> Tensors:
        """Run the first ``batch_size`` rows of ``input``. Raises RunError."""
        if self._session is None:
            raise RunError(f"model {self._spec.name}: this runtime is closed.")
        if not 1 <= batch_size <= len(self.input):
            raise RunError(
                f"model {self._spec.name}: a batch takes 1 to {len(self.input)} frames here, got {batch_size}."
            )
        rows = self._spec.max_batch or batch_size
        binding = self._bound(rows) if extra is None else self._bind(rows, extra)
        try:
            if self._gate is None:
                self._session.run_with_iobinding(binding)
            else:
                with self._gate:
                    self._session.run_with_iobinding(binding)
        except Exception as error:  # ONNX Runtime's exceptions have no common base of their own
            raise run_failed(self._spec, error) from error
        return self._collect(binding, batch_size)

    def _bound(self, rows: int) -> Any:
        binding = self._bindings.get(rows)
        if binding is None:
            binding = self._bindings[rows] = self._bind(rows, {})
        return binding

    def _bind(self, rows: int, extra: Tensors) -> Any:
        binding = self._session.io_binding()
        _bind_array(binding.bind_input, self._spec.image_input.name, self.input[:rows])
        for name, array in extra.items():
            binding.bind_cpu_input(name, array)
        for name, sizes in self._sizes.items():
            if name not in extra:
                _bind_array(binding.bind_input, name, sizes[:rows])
        for output in self._spec.outputs:
            if output.name in self._outputs:
                _bind_array(binding.bind_output, output.name, self._outputs[output.name][:rows])
            else:
                binding.bind_output(output.name)
        return binding

    def _collect(self, binding: Any, batch_size: int) -> Tensors:
        if len(self._outputs) == len(self._spec.outputs):
            return {name: array[:batch_size] for name, array in self._outputs.items()}
        found: dict[str, NDArray[Any]] = {}
        for output, value in zip(self._spec.outputs, binding.get_outputs(), strict=True):
            bound = self._outputs.get(output.name)
            array: NDArray[Any] = value.numpy() if bound is None else bound
            # Rows that nobody filled go; boxes of all pictures in one list have no such rows.
            by_picture = bound is not None or output.shape[:1] == (self._spec.max_batch or batch_size,)
            found[output.name] = array[:batch_size] if by_picture else array
        return found

    def close(self) -> None:
        """Let go of the session and all bindings."""
        self._bindings.clear()
        self._session = None


def _bind_array(bind: Any, name: str, array: NDArray[Any]) -> None:
    bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)


def _max_batch(spec: ModelSpec, options: RuntimeOptions) -> int:
    if spec.max_batch is not None:
        return min(spec.max_batch, options.max_batch or spec.max_batch)
    return options.max_batch or 1


def _shape_by_rule(options: RuntimeOptions, threads: int) -> tuple[Shape | None, str]:
    """Return the shape that needs no measuring, and why; None where only a measurement tells."""
    if threads == 1:
        return "throughput", "there is one core"
    if options.prefer != "auto":
        return options.prefer, "asked for"
    return None, ""
