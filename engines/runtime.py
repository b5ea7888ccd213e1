"""The protocol of every runtime: open a model once, run batches in a few slots at a time, close.

A *runtime* is one opened model on one device. A *slot* is a place in it where one batch at a time is prepared and
run; batches of different slots overlap. The CPU runtime's slots are concurrent runs of one session; a CUDA runtime's
slot owns a CUDA stream, its device and pinned buffers and its captured graph.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from engines.builds import Builds
from engines.errors import DeviceMemoryError, ModelError, RuntimeMissingError
from engines.model_spec import ModelSpec
from engines.shape_profile import ShapeProfile
from engines.trt.options import BuildOptions
from engines.trt.progress import Progress

if TYPE_CHECKING:
    from engines.buffers import DeviceTensor
    from engines.cuda_graph import CudaGraph
    from engines.device import CudaStream, Gpu
    from engines.precision.typed_model import Calibration, Precision

_log = logging.getLogger("onpace.runtime")

Tensors = Mapping[str, NDArray[Any]]

RUNTIMES: dict[str, str] = {  # word in the configuration -> "module:Class", imported on first use; fastest first
    "tensorrt": "engines.tensorrt_runtime:TensorRtRuntime",
    "cuda": "engines.cuda_runtime:CudaRuntime",
    "cpu": "engines.cpu_runtime:CpuRuntime",
}

PASSED_OVER = (RuntimeMissingError, ModelError, DeviceMemoryError)
"""What makes ``auto`` take the next runtime: it is not here, cannot take the model or its plan, or has no room."""

Prefer = Literal["auto", "latency", "throughput"]


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """How a GPU runs models: its slots and graphs, and how TensorRT's plans are built and where they are kept."""

    store: Path | None = None
    """Folder; None takes the user's cache."""
    shapes: ShapeProfile | None = None
    """Batches to build for; None: up to 8, or up to ``max_batch`` where that is more."""
    build: BuildOptions = field(default_factory=BuildOptions)
    progress: Progress | None = None
    """Follows a build, and can end it."""
    may_build: bool = True
    """Whether a missing plan is built at once; otherwise it is a PlanMissingError."""
    cuda_graphs: bool = True
    """Whether a batch is launched as one recorded CUDA graph, on every GPU runtime."""
    slots: int = 3
    """Batches in hand at a time, on every GPU runtime: while one runs, the next is prepared and uploaded, and a third
    slot's thread hands on what is finished."""


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """What a runtime may decide by: what the pipeline knows before the first frame."""

    prefer: Prefer = "auto"
    """latency: one wide run; throughput: several narrow runs; auto: by streams and a measurement."""
    max_batch: int | None = None
    """Largest batch to prepare for; None lets the runtime choose."""
    threads: int | None = None
    """CPU threads for inference in all; None takes every core this process may use."""
    streams: int = 1
    """How many streams will feed it."""
    live: bool = False
    """True when every stream is live (latency counts), False when files are among them (throughput counts)."""
    one_shape: bool = False
    """Whether ``Runtime.concurrent_runs`` must stay as it is when opened: other sizes are opened beside it."""
    precision: Precision | None = None
    """What the model is turned into first; None runs it as its file is."""
    calibration: Calibration | None = None
    """Pictures for ``precision`` int8 or fp8."""
    literal: bool = False
    """Whether a CPU runs a file in eight bits step by step, as TensorRT takes it, not in its own faster form."""
    gpu: int = 0
    """Which GPU, counted from 0."""
    stream_bytes: int = 0
    """Memory of the GPU that each stream takes beside the model, 0 where none: for what is said when it runs out."""
    plans: PlanOptions = field(default_factory=PlanOptions)
    """How plans are built and where they are kept."""
    builds: Builds = field(default_factory=Builds)
    """Where it is counted what had to be made."""


class Slot(Protocol):
    """A place where one batch at a time is prepared and run. Not thread-safe: one thread each."""

    @property
    def input(self) -> NDArray[Any]:
        """The input tensor to write into, ``[max_batch, C, H, W]``, of the model's dtype. Belongs to the slot."""

    def run(self, batch_size: int, extra: Tensors | None = None) -> Tensors:
        """Run the first ``batch_size`` rows of ``input``; ``extra`` feeds further inputs (original sizes).

        Returns the outputs by name, each ``[batch_size, ...]``; they are the caller's until the slot's next run.
        Raises RunError.
        """


@runtime_checkable
class DeviceSlot(Slot, Protocol):
    """A slot on a GPU. ``run`` uploads ``input``, enqueues inference, downloads the outputs and waits for them.

    Who prepares and reads on the device skips both copies: write into ``device_input`` by kernels enqueued on
    ``cuda_stream``, call ``enqueue``, read the outputs by kernels on the same stream, and ``synchronise`` at the end.
    The thread that does so calls ``gpu.use()`` first.
    """

    @property
    def gpu(self) -> Gpu:
        """Where everything of the slot lies."""

    @property
    def cuda_stream(self) -> CudaStream:
        """The slot's own stream: everything of it is enqueued there, in order."""

    @property
    def device_input(self) -> DeviceTensor:
        """The input tensor on the device, ``[max_batch, C, H, W]``, of the model's dtype. Always at the same place."""

    def enqueue(self, batch_size: int) -> Mapping[str, DeviceTensor]:
        """Enqueue inference alone on the first ``batch_size`` rows of ``device_input``, and return at once.

        Where ONNX Runtime's runs are not recorded, one in 65 is waited for, to give back what the others staged.

        Returns the outputs by name, each ``[batch_size, ...]``. They stay on the device, always at the same place for
        the same ``batch_size``, and hold the results once the stream comes so far, until the next ``enqueue``.
        Raises RunError.
        """

    def record(self, enqueue: Callable[[], None]) -> CudaGraph | None:
        """Record what ``enqueue`` enqueues on ``cuda_stream``, ``self.enqueue`` included, to be launched at once.

        It must have been enqueued once before. None where something of it cannot be recorded, or graphs are not wanted.
        """

    def synchronise(self) -> None:
        """Wait, asleep, until everything enqueued on the slot's stream is done.

        Raises RunError where it failed, DeviceLostError where nothing works any more.
        """


class Runtime(Protocol):
    """One opened model on one device. Slots may run at the same time; opening and closing may not."""

    name: str
    """The word that chose it: "cpu", "cuda", "tensorrt"."""
    slots: tuple[Slot, ...]
    max_batch: int

    @property
    def concurrent_runs(self) -> int:
        """Runs that go on at the same time; fewer than slots where some only prepare meanwhile. May change."""

    file: Path
    """What is loaded: the model's file, a typed form of it, or the plan made of that."""
    build_seconds: float | None
    """How long it once took to make ``file`` from the model; 0 where it is the model, None where nobody knows."""

    def describe(self) -> str:
        """One line for people: what runs where, in how many slots, and why so."""

    def close(self) -> None:
        """Give everything back. Closing twice is safe."""

    def __enter__(self) -> Runtime: ...

    def __exit__(self, *exception: object) -> None: ...


def open_runtime(name: str, model: Path, spec: ModelSpec, options: RuntimeOptions) -> Runtime:
    """Open ``model`` on the runtime called ``name`` ("auto" takes the fastest that works here, and says which).

    Raises RuntimeMissingError where it is unknown or not installed, ModelError where the model does not load,
    PlanMissingError where TensorRT was asked for by name, has no plan, and may not build one, DeviceMemoryError. "auto"
    raises what the last runtime does.
    """
    if name == "auto":
        return _open_first(list(RUNTIMES), model, spec, options)
    options.builds.expect(name, options.precision)
    runtime: Runtime = runtime_class(name)(model, spec, options)
    return runtime


def for_any_runtime(options: RuntimeOptions) -> RuntimeOptions:
    """Return ``options`` without a precision that only TensorRT has."""
    from engines.cpu_session import PRECISIONS

    return options if options.precision in PRECISIONS else replace(options, precision=None)


def open_meanwhile(name: str, model: Path, spec: ModelSpec, options: RuntimeOptions) -> Runtime:
    """Open ``model`` on the fastest runtime that works here after ``name``: what runs until that one is ready.

    Takes options that are ``for_any_runtime``.
    """
    after = list(RUNTIMES)[list(RUNTIMES).index(name) + 1 :]
    return _open_first(after, model, spec, options)


def _open_first(names: Sequence[str], model: Path, spec: ModelSpec, options: RuntimeOptions) -> Runtime:
    for name in names[:-1]:
        reason = runtime_class(name).why_not()
        if reason is None:
            try:
                runtime = open_runtime(name, model, spec, options)
            except PASSED_OVER as error:
                reason = str(error)
            else:
                _log.info("auto takes %s", name)
                return runtime
        _log.info("auto does not take %s: %s", name, reason)
    _log.info("auto takes %s", names[-1])
    return open_runtime(names[-1], model, spec, options)


def runtime_class(name: str) -> Any:
    """Return the class that implements the runtime called ``name``. Raises RuntimeMissingError where none does."""
    try:
        module_name, class_name = RUNTIMES[name].split(":")
    except KeyError:
        known = ", ".join(["auto", *RUNTIMES])
        raise RuntimeMissingError(f"runtime '{name}' is unknown. Allowed: {known}.") from None
    return getattr(importlib.import_module(module_name), class_name)


def as_float32(array: NDArray[Any]) -> NDArray[np.float32]:
    """Return ``array`` as float32, without a copy where it is already."""
    return np.asarray(array, np.float32)
