"""Memory for tensors: on the device, and pinned on the host, where copies to and from the device do not block."""

from __future__ import annotations

import ctypes
import math
import weakref
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.device import Gpu, checked, driver
from engines.errors import DeviceLostError, DeviceMemoryError


@dataclass(frozen=True, slots=True)
class DeviceTensor:
    """Where a tensor lies on a GPU. Owns nothing: whoever made it says how long it stays valid."""

    pointer: int
    """Device address."""
    shape: tuple[int, ...]
    """C-contiguous."""
    dtype: np.dtype[Any]
    gpu_index: int

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def rows(self, count: int) -> DeviceTensor:
        """Return the first ``count`` rows of it."""
        return DeviceTensor(self.pointer, (count, *self.shape[1:]), self.dtype, self.gpu_index)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """What CuPy, PyTorch and Numba read; it says nothing of streams."""
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (self.pointer, False), "version": 3}


class DeviceBuffer:
    """A tensor's memory on the device. A context manager; closing twice is safe."""

    def __init__(self, gpu: Gpu, shape: tuple[int, ...], dtype: Any) -> None:
        """Raises DeviceMemoryError where it does not fit."""
        gpu.use()
        kind = np.dtype(dtype)
        size = max(1, math.prod(shape) * kind.itemsize)
        try:
            pointer = int(checked(driver().cuMemAlloc(size)))
        except DeviceMemoryError as error:
            raise DeviceMemoryError(
                f"GPU {gpu.index} ({gpu.name}) has no {size / 2**20:.0f} MiB left for a tensor {list(shape)}."
            ) from error
        self.tensor = DeviceTensor(pointer, shape, kind, gpu.index)
        # Whoever made it closes it; what never came to be, because a part of it failed, lets go of it so.
        self._free = weakref.finalize(self, _free_device, gpu, pointer)
        self._free.atexit = False

    def close(self) -> None:
        """Free it. Nothing enqueued may still use it."""
        self._free()

    def __enter__(self) -> DeviceBuffer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class PinnedBuffer:
    """A tensor in page-locked host memory: ``array``. A context manager; closing twice is safe.

    The memory goes back once it is closed and nobody holds the array or a view of it any more.
    """

    def __init__(self, gpu: Gpu, shape: tuple[int, ...], dtype: Any) -> None:
        """Filled with zeros. Raises DeviceMemoryError where the system grants no such memory."""
        gpu.use()
        kind = np.dtype(dtype)
        size = math.prod(shape) * kind.itemsize
        address = int(checked(driver().cuMemHostAlloc(max(1, size), 0)))
        memory = (ctypes.c_uint8 * size).from_address(address)
        weakref.finalize(memory, _free_pinned, gpu, address).atexit = False
        self._array: NDArray[Any] | None = np.frombuffer(memory, kind).reshape(shape)
        self._array[...] = 0
        self.address = address

    @property
    def array(self) -> NDArray[Any]:
        """The tensor. Raises ValueError after closing."""
        if self._array is None:
            raise ValueError("this pinned buffer is closed")
        return self._array

    def close(self) -> None:
        """Let go of it."""
        self._array = None

    def __enter__(self) -> PinnedBuffer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _free_device(gpu: Gpu, pointer: int) -> None:
    with suppress(DeviceLostError):
        gpu.use()
    driver().cuMemFree(pointer)


def _free_pinned(gpu: Gpu, address: int) -> None:
    with suppress(DeviceLostError):
        gpu.use()
    driver().cuMemFreeHost(address)
