"""The TensorRT runtime: a plan from the engine store, run from slots that overlap, one CUDA graph a batch size."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from engines.buffers import DeviceBuffer, DeviceTensor
from engines.cuda_graph import CudaGraph, capture
from engines.device import Gpu, find_gpus
from engines.device_room import open_slots, streams_in_words
from engines.errors import DeviceMemoryError, ModelError, RunError, RuntimeMissingError
from engines.gpu_slot import GpuSlot
from engines.model_spec import ModelSpec
from engines.plan_building import PlanBuilder
from engines.runtime import RuntimeOptions, Slot
from engines.shape_profile import ShapeProfile, batch_that_fits
from engines.trt.builder import looks_like_no_memory
from engines.trt.engine import TrtEngine
from engines.trt.library import TrtLibrary, find_library

_ALL_UP_TO = 8
"""Batches up to this size run as they are; larger ones are rounded up to one of few sizes, each with a graph."""

_log = logging.getLogger("onpace.tensorrt")


class TensorRtRuntime:
    """A detector in TensorRT.

    Raises RuntimeMissingError without the library or a GPU, PlanMissingError where a plan would have to be built
    first and may not, PlanError for a plan that cannot be loaded, ModelError, DeviceMemoryError.
    """

    name = "tensorrt"

    def __init__(self, model: Path, spec: ModelSpec, options: RuntimeOptions) -> None:
        builder = PlanBuilder.open(model, spec, options, to_run=True)
        if builder.gpu is None:
            raise RuntimeMissingError("runtime 'tensorrt' needs a GPU.")
        gpu = builder.gpu
        self.plan = builder.require()
        self.file, self.build_seconds = self.plan.path, self.plan.build_seconds + self.plan.earlier_seconds
        self._about = f"{builder.library.flavour} {builder.library.version} on {gpu.name}"

        def too_large(most: int, needed: int | None, free: int) -> DeviceMemoryError:
            return no_room(gpu, spec, most, needed, free, builder.command, options.stream_bytes)

        free = gpu.free_bytes()
        try:
            engine = TrtEngine(builder.library, self.plan.read(), f"{self.plan.digest} of {spec.name}")
        except DeviceMemoryError as error:
            raise too_large(builder.key.shapes.max_batch, None, free) from error
        most = _check_io(engine, spec)
        taken = engine.dtype(spec.image_input.name).name  # fp16 takes pictures in half precision
        spec = replace(spec, image_input=replace(spec.image_input, dtype=taken))
        self.max_batch = _max_batch(spec, options, most)
        least = engine.min_batch(spec.image_input.name)
        rows = spec.max_batch or max(least, self.max_batch)
        needed = options.plans.slots * _memory_of_slot(engine.context_bytes, spec, rows)
        free = gpu.free_bytes()
        if needed > free:
            raise too_large(most, needed, free)

        def open_one(number: int, rows: int) -> TensorRtSlot:
            return TensorRtSlot(gpu, f"infer-{number}", spec, rows, builder.library, engine, options)

        try:
            self._slots = open_slots(options.plans.slots, rows, open_one)
        except DeviceMemoryError as error:  # graphs, kernels and outputs take some as well
            raise too_large(most, None, free) from error
        self.slots: tuple[Slot, ...] = self._slots
        self.concurrent_runs = len(self.slots)

    @staticmethod
    def why_not() -> str | None:
        """Return why this runtime cannot be used here; None where it can."""
        try:
            find_library()
            return None if find_gpus() else "there is no NVIDIA GPU here."
        except RuntimeMissingError as error:
            return str(error)

    def describe(self) -> str:
        """One line for people."""
        how = self._slots[0].graphs_in_words()
        precision = self.plan.ingredients["precision"]
        return f"{self._about}: {precision}, batch 1 to {self.max_batch}, {len(self.slots)} slots, {how}"

    def close(self) -> None:
        """Give everything back. Closing twice is safe."""
        for slot in self._slots:
            slot.close()

    def __enter__(self) -> TensorRtRuntime:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class TensorRtSlot(GpuSlot):
    """One place for one batch. Every batch size has a context and a graph of its own; they share scratch memory."""

    def __init__(
        self,
        gpu: Gpu,
        name: str,
        spec: ModelSpec,
        rows: int,
        library: TrtLibrary,
        engine: TrtEngine,
        options: RuntimeOptions,
    ) -> None:
        super().__init__(gpu, name, spec, rows)
        self._library = library
        self._engine = engine
        self._graphs_wanted = options.plans.cuda_graphs
        if spec.size_input is not None:
            self._add_sizes(engine.dtype(spec.size_input.name))
        self._least = engine.min_batch(spec.image_input.name)
        self._scratch: DeviceBuffer | None = None
        self._outputs: dict[str, DeviceBuffer] = {}
        self._prepared: dict[int, _Prepared] = {}

    @property
    def uses_graphs(self) -> bool:
        """Whether batches are launched as recorded graphs."""
        return any(prepared.graph is not None for prepared in self._prepared.values())

    def warm_up(self) -> None:
        """Prepare the usual batch sizes, so that no frame waits for it. The largest first: it sizes the buffers."""
        for rows in sorted({self._step(rows) for rows in range(1, self._rows + 1)}, reverse=True):
            self._ready(rows)

    def _step(self, batch_size: int) -> int:
        """Return the size that so many frames run as."""
        return self._spec.max_batch or batch_step(batch_size, self._least, self._rows)

    def _enqueue(self, batch_size: int) -> Mapping[str, DeviceTensor]:
        rows = self._step(batch_size)
        prepared = self._ready(rows)
        if prepared.graph is not None and not self._recording:
            prepared.graph.launch()
        else:
            self._execute(prepared.context)
        return self._filled(prepared.outputs, rows, batch_size)

    def _ready(self, rows: int) -> _Prepared:
        prepared = self._prepared.get(rows)
        if prepared is None:
            prepared = self._prepared[rows] = self._prepare(rows)
        return prepared

    def _prepare(self, rows: int) -> _Prepared:
        """Make a context for batches of ``rows``, run it once, and record its graph."""
        self._gpu.use()
        if self._scratch is None:
            self._scratch = DeviceBuffer(self._gpu, (max(1, self._engine.context_bytes),), np.uint8)
        context = self._engine.new_context(self._scratch.tensor.pointer, self._scratch.tensor.nbytes)
        for name, buffer in self._inputs.items():
            shape = (rows, *buffer.tensor.shape[1:])
            if not context.set_input_shape(name, shape):
                raise RunError(f"model {self._spec.name}: input '{name}' takes no {list(shape)}: {self._why()}.")
            context.set_tensor_address(name, buffer.tensor.pointer)
        outputs = {name: self._output(context, name) for name in self._engine.outputs}
        self._execute(context)
        self._cuda_stream.synchronise()
        graph = capture(self._cuda_stream, lambda: self._execute(context)) if self._graphs_wanted else None
        return _Prepared(context, outputs, graph)

    def _output(self, context: Any, name: str) -> DeviceTensor:
        shape = self._engine.output_shape(context, name)
        dtype = self._engine.dtype(name)
        buffer = self._outputs.get(name)
        needed = DeviceTensor(0, shape, dtype, self._gpu.index)
        if buffer is None or buffer.tensor.nbytes < needed.nbytes:
            if buffer is not None:  # graphs and contexts of other batches point there
                raise RunError(f"output '{name}' grew after the first batch: prepare the largest batch first")
            buffer = self._outputs[name] = DeviceBuffer(self._gpu, shape, dtype)
        context.set_tensor_address(name, buffer.tensor.pointer)
        return DeviceTensor(buffer.tensor.pointer, shape, dtype, self._gpu.index)

    def _execute(self, context: Any) -> None:
        if not context.execute_async_v3(self._cuda_stream.handle):
            words = self._why()
            kind = DeviceMemoryError if looks_like_no_memory(words) else RunError
            raise kind(f"model {self._spec.name} failed in {self._library.flavour}: {words}.")

    def _why(self) -> str:
        return self._library.complaint()

    def _release(self) -> None:
        for prepared in self._prepared.values():
            if prepared.graph is not None:
                prepared.graph.close()
        self._prepared.clear()  # contexts go before the memory they work in
        for buffer in self._outputs.values():
            buffer.close()
        if self._scratch is not None:
            self._scratch.close()


class _Prepared:
    """What one batch size needs."""

    def __init__(self, context: Any, outputs: dict[str, DeviceTensor], graph: CudaGraph | None) -> None:
        self.context = context
        self.outputs = outputs
        self.graph = graph


def batch_step(rows: int, least: int, most: int) -> int:
    """Return the batch size that ``rows`` frames run as: themselves up to 8, else rounded up to a multiple of 8.

    Within ``least`` and ``most``, what the plan takes.
    """
    if rows > _ALL_UP_TO:
        rows = -(-rows // _ALL_UP_TO) * _ALL_UP_TO
    return min(most, max(least, rows))


def _check_io(engine: TrtEngine, spec: ModelSpec) -> int:
    """Return the plan's largest batch. Raises ModelError where its tensors are not the model's."""
    wanted = {spec.image_input.name, *([spec.size_input.name] if spec.size_input else [])}
    if set(engine.inputs) != wanted or not {output.name for output in spec.outputs} <= set(engine.outputs):
        raise ModelError(
            f"plan of {spec.name}: it has inputs {', '.join(engine.inputs)} and outputs {', '.join(engine.outputs)}, "
            "which are not the model's. Build it again: onpace build --rebuild."
        )
    return engine.max_batch(spec.image_input.name)


def _max_batch(spec: ModelSpec, options: RuntimeOptions, most: int) -> int:
    if spec.max_batch is not None:
        return min(spec.max_batch, options.max_batch or spec.max_batch)
    if options.max_batch is not None:
        return min(options.max_batch, most)
    # More than one frame of a camera in a batch only waits; files fill batches.
    return min(most, max(1, options.streams)) if options.live else most


def _memory_of_slot(context_bytes: int, spec: ModelSpec, rows: int) -> int:
    """Return the bytes that a slot takes: what a plan works in, whatever the batch is, and the pictures."""
    return context_bytes + rows * 3 * spec.input_height * spec.input_width * 4


def no_room(
    gpu: Gpu,
    spec: ModelSpec,
    most: int,
    needed: int | None,
    free: int,
    build: Callable[[ShapeProfile], str],
    stream_bytes: int,
) -> DeviceMemoryError:
    """Return what to raise where slots of a plan for batches up to ``most`` do not fit: with the batch that would.

    ``needed``: bytes; None where it is not known, only that ``free`` bytes are too few: half the batch is to be tried.
    ``build`` gives the command that makes a plan for other batches.
    """
    fits = most // 2 if needed is None else batch_that_fits(most, needed, free)
    if spec.max_batch is not None and most > 1:
        what = f"The file fixes its batch at {most}: export it with a smaller one, or free GPU memory"
    elif not fits or most == 1:
        what = "Not even one frame would: free GPU memory, or take a smaller model or input size"
    else:
        shapes = ShapeProfile(1, fits, fits)
        how = f"{build(shapes)}, and engine.batch: '{shapes}' in the configuration"
        taken = free if needed is None else needed  # of all that is free, where it is only known to be too little
        streams = streams_in_words(free - taken * fits // most, stream_bytes)
        what = f"Try batch {fits}{streams}: {how}" if needed is None else f"Batch {fits} would fit{streams}: {how}"
    more = "more" if needed is None else f"{needed / 2**20:.0f} MiB or more"
    return DeviceMemoryError(
        f"model {spec.name}: its slots for batches up to {most} need {more}, but GPU "
        f"{gpu.index} ({gpu.name}) has {free / 2**20:.0f} MiB free. {what}."
    )
