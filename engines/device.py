"""The GPU: choosing one, its CUDA streams and events, and CUDA's error codes in words.

Streams are passed, never implied: nothing here runs on the default stream. Waiting sleeps on an event with blocking
sync, so that decoding keeps its cores, and waits for one stream, never for the whole device. (Freeing device memory
does wait for all of it: that happens when something ends or outgrows its place, not from batch to batch.)
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from engines.enqueue import record_event
from engines.errors import DeviceLostError, DeviceMemoryError, RunError, RuntimeMissingError
from engines.nvtx import name_cuda_stream

_INSTALL = 'pip install "onpace[cuda]" (on CUDA 12: "onpace[cuda12]")'


_STICKY = (  # CUDA's documentation: after these, every call of the process answers the same
    "CUDA_ERROR_ECC_UNCORRECTABLE",
    "CUDA_ERROR_NVLINK_UNCORRECTABLE",
    "CUDA_ERROR_CONTAINED",
    "CUDA_ERROR_ILLEGAL_ADDRESS",
    "CUDA_ERROR_LAUNCH_TIMEOUT",
    "CUDA_ERROR_CONTEXT_IS_DESTROYED",
    "CUDA_ERROR_ASSERT",
    "CUDA_ERROR_HARDWARE_STACK_ERROR",
    "CUDA_ERROR_ILLEGAL_INSTRUCTION",
    "CUDA_ERROR_MISALIGNED_ADDRESS",
    "CUDA_ERROR_INVALID_ADDRESS_SPACE",
    "CUDA_ERROR_INVALID_PC",
    "CUDA_ERROR_LAUNCH_FAILED",
    "CUDA_ERROR_TENSOR_MEMORY_LEAK",
    "CUDA_ERROR_EXTERNAL_DEVICE",
)


@dataclass(frozen=True, slots=True)
class Gpu:
    """One NVIDIA GPU. Plain facts: every thread that works on it calls ``use`` first."""

    index: int
    name: str
    """As the driver calls it: "NVIDIA H100 80GB HBM3"."""
    compute_capability: tuple[int, int]
    """Major, minor: (9, 0)."""
    total_bytes: int

    def use(self) -> None:
        """Make this the calling thread's current device (its primary context, which all libraries share)."""
        with cuda_errors():
            _cuda_core().Device(self.index).set_current()

    def free_bytes(self) -> int:
        """Return the memory that is free on the device now."""
        self.use()
        free, _ = checked(driver().cuMemGetInfo())
        return int(free)

    def new_stream(self, name: str) -> CudaStream:
        """Return a new CUDA stream that does not wait for the default stream. ``name`` is what traces call it."""
        return CudaStream(self, name)

    def require(self, index: int, what: str) -> None:
        """Raise RunError unless ``what`` lies on this GPU: nothing is copied between devices behind anyone's back."""
        if index != self.index:
            raise RunError(f"{what} lies on GPU {index}, but is to be used on GPU {self.index}. Copy it, or move it.")


def find_gpus() -> list[Gpu]:
    """Return the GPUs of this machine. Raises RuntimeMissingError where CUDA cannot be used, with the remedy."""
    core = _cuda_core()
    try:
        checked(driver().cuInit(0))
        count = int(checked(driver().cuDeviceGetCount()))
    except RuntimeError as error:  # the loader found no libcuda
        raise RuntimeMissingError(
            "no NVIDIA driver here (libcuda.so.1 was not found). Install the driver; in a container, start it with the "
            "NVIDIA runtime (docker run --gpus all)."
        ) from error
    except RunError as error:
        raise RuntimeMissingError(
            f"the NVIDIA driver answers: {error} Look at nvidia-smi: the driver may be older than CUDA "
            f"{_bindings_major()} wants, or the GPU not given to this container."
        ) from error
    return [_facts(core.Device(index)) for index in range(count)]


def open_gpu(index: int = 0) -> Gpu:
    """Return GPU ``index``, made current in the calling thread. Raises RuntimeMissingError."""
    gpus = find_gpus()
    if not 0 <= index < len(gpus):
        here = ", ".join(f"{gpu.index} ({gpu.name})" for gpu in gpus) or "none"
        raise RuntimeMissingError(f"there is no GPU {index} here. Found: {here}. CUDA_VISIBLE_DEVICES may hide some.")
    # Libraries that wait for the device (decoders for each live picture) are to sleep: CUDA's own choice is to spin.
    asleep = int(driver().CUctx_flags.CU_CTX_SCHED_BLOCKING_SYNC)
    checked(driver().cuDevicePrimaryCtxSetFlags(checked(driver().cuDeviceGet(index)), asleep))
    gpus[index].use()
    return gpus[index]


class CudaStream:
    """A CUDA stream of one GPU, with an event to wait for it asleep. Closing twice is safe."""

    def __init__(self, gpu: Gpu, name: str) -> None:
        self.gpu = gpu
        self.name = name
        """What traces call it, as "infer-0"."""
        gpu.use()
        core = _cuda_core()
        device = core.Device(gpu.index)
        self.stream: Any = device.create_stream(options=core.StreamOptions(nonblocking=True))
        """The cuda.core.Stream, for ``launch``."""
        self.handle = int(self.stream.handle)
        """The CUstream as a number, for libraries."""
        name_cuda_stream(self.handle, name)
        self._done: Any = device.create_event(core.EventOptions(blocking_sync=True))
        self._done_handle = int(self._done.handle)

    def synchronise(self) -> None:
        """Wait until everything enqueued so far is done. Sleeps; waits for this stream alone.

        Raises RunError where something that was enqueued has failed.
        """
        record_event(self._done_handle, self.handle)
        with cuda_errors():
            self._done.sync()

    def lost(self) -> DeviceLostError | None:
        """Return what broke CUDA's context for this process, where that has happened; waits for nothing."""
        try:
            code, *_ = driver().cuStreamQuery(self.handle)
            if code != driver().CUresult.CUDA_ERROR_NOT_READY:
                checked((code,))
        except DeviceLostError as error:
            return error
        except RunError:
            return None
        return None

    def upload(self, pointer: int, host_address: int, nbytes: int) -> None:
        """Enqueue a copy from pinned host memory to the device."""
        checked(driver().cuMemcpyHtoDAsync(pointer, host_address, nbytes, self.handle))

    def download(self, host_address: int, pointer: int, nbytes: int) -> None:
        """Enqueue a copy from the device to pinned host memory."""
        checked(driver().cuMemcpyDtoHAsync(host_address, pointer, nbytes, self.handle))

    def clear(self, pointer: int, nbytes: int) -> None:
        """Enqueue zeros."""
        checked(driver().cuMemsetD8Async(pointer, 0, nbytes, self.handle))

    def close(self) -> None:
        """Give the stream back; what is enqueued still runs."""
        if self._done is not None:
            self._done.close()
            self.stream.close()
            self._done = None

    def __enter__(self) -> CudaStream:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@cache
def driver() -> Any:
    """Return ``cuda.bindings.driver``. Raises RuntimeMissingError where it is not installed."""
    return _module("cuda.bindings.driver")


def checked(result: Any) -> Any:
    """Return what a call of ``cuda.bindings.driver`` answered beside its error code.

    Raises DeviceMemoryError where memory ran out, DeviceLostError where nothing works any more, else RunError.
    """
    code, *values = result
    if int(code):
        _, name = driver().cuGetErrorName(code)
        _, text = driver().cuGetErrorString(code)
        raise _error(f"{_text(name)}, {_text(text)}")
    return values[0] if len(values) == 1 else tuple(values)


@contextmanager
def cuda_errors() -> Iterator[None]:
    """Raise the errors of ``cuda.core`` as ours."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "cuda":
            raise
        raise _error(str(error)) from error


def _error(text: str) -> RunError:
    if "OUT_OF_MEMORY" in text:
        return DeviceMemoryError(f"the GPU is out of memory ({text}).")
    if any(name in text for name in _STICKY):
        return DeviceLostError(f"the GPU is lost to this process ({text}). Only a new process gets it back.")
    return RunError(f"CUDA failed: {text}.")


def _facts(device: Any) -> Gpu:
    handle = int(device.device_id)
    capability = device.compute_capability
    total = checked(driver().cuDeviceTotalMem(checked(driver().cuDeviceGet(handle))))
    return Gpu(handle, str(device.name), (int(capability[0]), int(capability[1])), int(total))


def _cuda_core() -> Any:
    return _module("cuda.core")


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise RuntimeMissingError(f"the GPU needs {name.rpartition('.')[0] or name}: {error}. {_INSTALL}") from error


def _bindings_major() -> str:
    return str(getattr(importlib.import_module("cuda.bindings"), "__version__", "?")).partition(".")[0]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
