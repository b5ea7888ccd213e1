"""The CUDA runtime: ONNX Runtime's CUDA provider, its tensors bound on the device, on our CUDA streams."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from engines.buffers import DeviceBuffer, DeviceTensor
from engines.cpu_session import DISABLED_OPTIMIZERS, first_line, require_precision, run_failed
from engines.cuda_graph import CudaGraph
from engines.device import Gpu, find_gpus, open_gpu
from engines.device_room import open_slots, open_slots_or_say
from engines.errors import DeviceMemoryError, ModelError, RunError, RuntimeMissingError
from engines.gpu_slot import GpuSlot
from engines.model_spec import ModelSpec, TensorSpec
from engines.precision.kept import kept_model, made_seconds
from engines.precision.typed_model import spec_of_typed
from engines.runtime import RuntimeOptions, Slot
from engines.shape_profile import DEFAULT_MAX_BATCH

_PROVIDER = "CUDAExecutionProvider"
_FATAL_ONLY = 4
_INSTALL = (
    'pip uninstall -y onnxruntime onnxruntime-gpu && pip install "onpace[cuda]" (docs/install.md says which CUDA and '
    "cuDNN go with it)"
)

_NO_MEMORY = (
    "out_of_memory",
    "out of memory",
    "failed to allocate",
    "alloc_failed",
    "device_allocation_failed",
    "no device memory",
    "resource allocation failed",
)
"""What ONNX Runtime, CUDA and cuDNN say where memory runs out."""

_NO_REASON = ("cudnn_status_internal_error", "cudnn_status_not_initialized", "cublas_status_not_initialized")
"""What cuDNN and cuBLAS say where there is no room for what they need themselves, and in other cases."""

_LITTLE = 512 << 20
"""Bytes: with less than that free, memory is taken for the reason."""

_MOST_UNSETTLED = 64
"""Runs of a session after which one is waited for; see ``_Bound``."""

_log = logging.getLogger("onpace.cuda")


class CudaRuntime:
    """A detector in ONNX Runtime on a GPU.

    Raises RuntimeMissingError without its CUDA build, a GPU, CUDA or cuDNN; ModelError where the model does not load;
    DeviceMemoryError.
    """

    name = "cuda"

    def __init__(self, model: Path, spec: ModelSpec, options: RuntimeOptions) -> None:
        onnxruntime = _onnxruntime()
        require_precision(self.name, options.precision)
        gpu = open_gpu(options.gpu)
        if options.precision is not None:
            counted = (options.builds, self.name)
            model = kept_model(model, spec, options.precision, options.calibration, count=counted)
        spec = spec_of_typed(spec, options.precision)
        self.file = model
        self.build_seconds = made_seconds(model) if options.precision not in (None, "fp32") else 0.0
        self.max_batch = _max_batch(spec, options)
        rows = spec.max_batch or self.max_batch

        def open_some(rows: int) -> tuple[CudaSlot, ...]:
            def open_one(number: int, rows: int) -> CudaSlot:
                return CudaSlot(gpu, f"infer-{number}", spec, rows, onnxruntime, model, options)

            return open_slots(options.plans.slots, rows, open_one)

        fixed = spec.max_batch is not None
        self._slots = open_slots_or_say(f"model {spec.name}", gpu, options.stream_bytes, rows, fixed, open_some)
        self.slots: tuple[Slot, ...] = self._slots
        self.concurrent_runs = len(self.slots)
        self._precision = f"{options.precision}, " if options.precision else ""
        self._about = f"ONNX Runtime {onnxruntime.__version__}, CUDA provider on {gpu.name}"

    @staticmethod
    def why_not() -> str | None:
        """Return why this runtime cannot be used here; None where it can, as far as can be told without a model."""
        try:
            _onnxruntime()
            return None if find_gpus() else "there is no NVIDIA GPU here."
        except RuntimeMissingError as error:
            return str(error)

    def describe(self) -> str:
        """One line for people."""
        how = self._slots[0].graphs_in_words()
        return f"{self._about}: {self._precision}batch 1 to {self.max_batch}, {len(self.slots)} slots, {how}"

    def close(self) -> None:
        """Give everything back. Closing twice is safe."""
        for slot in self._slots:
            slot.close()

    def __enter__(self) -> CudaRuntime:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class CudaSlot(GpuSlot):
    """One place for one batch. Its sessions run on its CUDA stream: one session a batch size, bound and recorded once.

    One session for all sizes would have cuDNN plan every convolution anew whenever the size changes: a second or more
    in half precision.
    """

    def __init__(
        self,
        gpu: Gpu,
        name: str,
        spec: ModelSpec,
        rows: int,
        onnxruntime: Any,
        model: Path,
        options: RuntimeOptions,
    ) -> None:
        super().__init__(gpu, name, spec, rows)
        self._graphs_wanted = options.plans.cuda_graphs
        self._open_session: Callable[[], Any] = lambda: _open_session(onnxruntime, model, gpu, self._cuda_stream.handle)
        self._run_options = onnxruntime.RunOptions()
        self._run_options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        if spec.size_input is not None:
            self._add_sizes(spec.size_input.dtype)
        self._outputs: dict[str, DeviceBuffer] = {}
        self._bound: dict[int, _Bound] = {}

    @property
    def uses_graphs(self) -> bool:
        """Whether batches are launched as recorded graphs."""
        return any(bound.graph is not None for bound in self._bound.values())

    def warm_up(self) -> None:
        """Prepare every size that batches run as, the largest first: it sizes the buffers."""
        sizes = {self._step(rows) for rows in range(1, self._rows + 1)}
        for rows in sorted(sizes, reverse=True):
            self._bound[rows] = self._bind_session(self._open_session(), rows)
        for bound in self._bound.values():
            bound.graph = self.record(partial(self._run_ahead, bound))
            if bound.graph is None:
                return

    def _step(self, batch_size: int) -> int:
        """Return the size that so many frames run as: the next power of two, as far as there is room."""
        return self._spec.max_batch or min(self._rows, 1 << (batch_size - 1).bit_length())

    def _enqueue(self, batch_size: int) -> Mapping[str, DeviceTensor]:
        rows = self._step(batch_size)
        bound = self._bound[rows]
        if bound.graph is not None and not self._recording:
            bound.graph.launch()
        elif self._recording or bound.recorded or bound.unsettled < _MOST_UNSETTLED:
            self._run_ahead(bound)
        else:
            self._settle(bound)
        found = dict(bound.outputs)
        if len(found) < len(self._spec.outputs):
            for output, value in zip(self._spec.outputs, bound.binding.get_outputs(), strict=True):
                if output.name not in found:
                    found[output.name] = self._tensor(output, value)
        return self._filled(found, rows, batch_size)

    def _bind_session(self, session: Any, rows: int) -> _Bound:
        """Bind a session for batches of ``rows``; outputs whose shape is stated, and true, get memory of their own."""
        first = self._bind(session, rows)
        self._run(first, None)
        for output, value in zip(self._spec.outputs, first.binding.get_outputs(), strict=True):
            made = self._tensor(output, value)
            stated = len(output.shape) > 1 and None not in output.shape[1:]
            known = output.name in self._outputs or self._spec.has_nms
            if stated and not known and made.shape == (rows, *output.shape[1:]):
                self._outputs[output.name] = DeviceBuffer(self._gpu, made.shape, output.dtype)
        bound = self._bind(session, rows)
        self._run(bound, None)
        return bound

    def _bind(self, session: Any, rows: int) -> _Bound:
        binding = session.io_binding()
        for name, buffer in self._inputs.items():
            _bind_tensor(binding.bind_input, name, buffer.tensor.rows(rows))
        outputs = {name: buffer.tensor.rows(rows) for name, buffer in self._outputs.items()}
        for output in self._spec.outputs:
            if output.name in outputs:
                _bind_tensor(binding.bind_output, output.name, outputs[output.name])
            else:
                binding.bind_output(output.name, "cuda", self._gpu.index)
        return _Bound(session, binding, outputs)

    def record(self, enqueue: Callable[[], None]) -> CudaGraph | None:
        """As every slot's; and the sessions that ran are not settled any more while the slot is open."""
        before = {rows: bound.unsettled for rows, bound in self._bound.items()}
        graph = super().record(enqueue)
        if graph is not None:
            for rows, bound in self._bound.items():
                bound.recorded |= bound.unsettled > before[rows]
        return graph

    def _run_ahead(self, bound: _Bound) -> None:
        """Enqueue a run; return before it is through."""
        bound.unsettled += 1
        self._run(bound, self._run_options)

    def _settle(self, bound: _Bound) -> None:
        """Run, wait, and have what runs before this one have staged given back."""
        self._run(bound, None)
        bound.unsettled = 0

    def _run(self, bound: _Bound, options: Any) -> None:
        try:
            bound.session.run_with_iobinding(bound.binding, options)
        except Exception as error:  # ONNX Runtime's exceptions have no common base of their own
            if _is_no_memory(error, self._gpu):
                raise _no_memory(error) from error
            raise run_failed(self._spec, error) from error

    def _tensor(self, output: TensorSpec, value: Any) -> DeviceTensor:
        return DeviceTensor(value.data_ptr(), tuple(value.shape()), np.dtype(output.dtype), self._gpu.index)

    def _recordable(self) -> bool:
        """Outputs that ONNX Runtime allocates lie elsewhere each time."""
        return all(len(bound.outputs) == len(self._spec.outputs) for bound in self._bound.values())

    def _release(self) -> None:
        for bound in self._bound.values():
            if bound.graph is not None:
                bound.graph.close()
            if bound.unsettled:
                with suppress(RunError):  # on a lost GPU nothing is given back
                    self._settle(bound)
        self._bound.clear()
        for buffer in self._outputs.values():
            buffer.close()

    def __enter__(self) -> CudaSlot:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@dataclass
class _Bound:
    """A session, its tensors bound, and its run recorded where that can be.

    What a run stages in pinned host memory, ONNX Runtime keeps until the next run that is waited for, or until the
    session ends. So ``unsettled`` runs take ever more; and where it is left to the end, CUDA calls back to have it
    freed, which ends the process if the session is gone by then. Recorded runs, though, read what they have staged
    each time they are launched.
    """

    session: Any
    binding: Any
    outputs: dict[str, DeviceTensor]
    graph: CudaGraph | None = None
    recorded: bool = False
    """Some graph, this one or one of a slot's whole way, holds a run of it."""
    unsettled: int = 0


def _onnxruntime() -> Any:
    """Return the module. Raises RuntimeMissingError unless it is the CUDA build."""
    try:
        import onnxruntime
    except ImportError as error:
        raise RuntimeMissingError(f"runtime 'cuda' needs ONNX Runtime's CUDA build: {error}. {_INSTALL}.") from error
    if _PROVIDER not in onnxruntime.get_available_providers():
        raise RuntimeMissingError(
            f"runtime 'cuda' needs ONNX Runtime's CUDA build; the one here, {onnxruntime.__version__}, only has "
            f"{', '.join(onnxruntime.get_available_providers())}. {_INSTALL}."
        )
    return onnxruntime


def _open_session(onnxruntime: Any, model: Path, gpu: Gpu, cuda_stream: int) -> Any:
    """Return a session that really runs on ``gpu``: left alone, ONNX Runtime falls back to the CPU silently."""
    onnxruntime.set_default_logger_severity(_FATAL_ONLY)
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _FATAL_ONLY
    settings.intra_op_num_threads = 1  # for the few shape operators that stay on the CPU
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    provider = {
        "device_id": str(gpu.index),
        "user_compute_stream": str(cuda_stream),
        "arena_extend_strategy": "kSameAsRequested",
        # Its own choice times every kernel of every convolution: on an H100 a network in fp16 then takes four times as
        # long to open, and is not faster.
        "cudnn_conv_algo_search": "HEURISTIC",
    }
    try:
        session = onnxruntime.InferenceSession(
            str(model),
            settings,
            providers=[(_PROVIDER, provider), "CPUExecutionProvider"],
            disabled_optimizers=DISABLED_OPTIMIZERS,
        )
    except Exception as error:
        if _is_no_memory(error, gpu):
            raise _no_memory(error) from error
        raise ModelError(f"model {model}: ONNX Runtime cannot load it on CUDA: {first_line(error)}") from error
    given = session.get_providers()
    if given[:1] != [_PROVIDER]:
        raise RuntimeMissingError(
            f"ONNX Runtime {onnxruntime.__version__} did not take the GPU but fell back to {', '.join(given)}: CUDA or "
            f"cuDNN is missing or of another version than this build wants. {_INSTALL}."
        )
    return session


def _is_no_memory(error: Exception, gpu: Gpu) -> bool:
    words = str(error).lower()
    if any(known in words for known in _NO_MEMORY):
        return True
    return any(known in words for known in _NO_REASON) and gpu.free_bytes() < _LITTLE


def _no_memory(error: Exception) -> DeviceMemoryError:
    return DeviceMemoryError(f"the GPU is out of memory: ONNX Runtime says {first_line(error)}")


def _bind_tensor(bind: Any, name: str, tensor: DeviceTensor) -> None:
    bind(name, "cuda", tensor.gpu_index, tensor.dtype.type, tensor.shape, tensor.pointer)


def _max_batch(spec: ModelSpec, options: RuntimeOptions) -> int:
    if spec.max_batch is not None:
        return min(spec.max_batch, options.max_batch or spec.max_batch)
    if options.max_batch is not None:
        return options.max_batch
    return min(DEFAULT_MAX_BATCH, max(1, options.streams)) if options.live else DEFAULT_MAX_BATCH
