"""What the slots of every GPU runtime share: a CUDA stream, buffers on both sides, and the way through them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.buffers import DeviceBuffer, DeviceTensor, PinnedBuffer
from engines.cpu_session import sizes_fed
from engines.cuda_graph import CudaGraph, capture
from engines.device import CudaStream, Gpu
from engines.errors import RunError
from engines.model_spec import ModelSpec
from engines.runtime import Tensors


class GpuSlot(ABC):
    """A ``DeviceSlot`` but for how a batch is enqueued. Closing twice is safe."""

    def __init__(self, gpu: Gpu, name: str, spec: ModelSpec, rows: int) -> None:
        """``rows``: the largest batch. Raises DeviceMemoryError."""
        self._gpu = gpu
        self._spec = spec
        self._rows = rows
        self._open = True
        self._recording = False
        self._graphs_wanted = True
        image = spec.image_input
        shape = (rows, 3, spec.input_height, spec.input_width)
        self._cuda_stream = gpu.new_stream(name)
        self._host_input = PinnedBuffer(gpu, shape, image.dtype)
        self._inputs = {image.name: DeviceBuffer(gpu, shape, image.dtype)}
        self._host_outputs: dict[str, PinnedBuffer] = {}
        self._dtypes = {output.name: np.dtype(output.dtype) for output in spec.outputs if output.dtype != "unknown"}
        self.input: NDArray[Any] = self._host_input.array
        tensor = self._inputs[image.name].tensor
        self._cuda_stream.clear(tensor.pointer, tensor.nbytes)  # rows that nobody fills yet hold numbers, too

    @property
    def gpu(self) -> Gpu:
        """Where everything of the slot lies."""
        return self._gpu

    @property
    def cuda_stream(self) -> CudaStream:
        """The slot's own stream."""
        return self._cuda_stream

    @property
    def device_input(self) -> DeviceTensor:
        """The input tensor on the device."""
        return self._inputs[self._spec.image_input.name].tensor

    def run(self, batch_size: int, extra: Tensors | None = None) -> Tensors:
        """Upload, enqueue, download, wait. Raises RunError."""
        self._check(batch_size)
        self._gpu.use()
        self._upload(self._spec.image_input.name, self._host_input, batch_size)
        kept = [self._upload_array(name, array) for name, array in (extra or {}).items()]
        found = {name: self._download(name, tensor) for name, tensor in self.enqueue(batch_size).items()}
        self._cuda_stream.synchronise()
        del kept
        return {name: self._as_stated(name, array) for name, array in found.items()}

    def enqueue(self, batch_size: int) -> Mapping[str, DeviceTensor]:
        """Enqueue inference alone, and return at once. Raises RunError."""
        self._check(batch_size)
        return self._enqueue(batch_size)

    def _filled(self, outputs: Mapping[str, DeviceTensor], rows: int, batch_size: int) -> Mapping[str, DeviceTensor]:
        """Return what a batch of ``rows`` gave for the ``batch_size`` that were filled.

        Boxes of all pictures in one list have no rows of pictures: the list stays whole.
        """
        columns = self._spec.head_options.get("columns")
        if rows == batch_size or (isinstance(columns, Sequence) and "batch" in columns):
            return outputs
        return {
            name: tensor.rows(batch_size) if tensor.shape[:1] == (rows,) else tensor for name, tensor in outputs.items()
        }

    def record(self, enqueue: Callable[[], None]) -> CudaGraph | None:
        """Record what ``enqueue`` enqueues on the slot's stream; None where that cannot be, or is not wanted."""
        if not self._graphs_wanted or not self._recordable():
            return None
        self._recording = True
        try:
            return capture(self._cuda_stream, enqueue)
        finally:
            self._recording = False

    def synchronise(self) -> None:
        """Wait, asleep, for the slot's stream alone. Raises RunError."""
        self._cuda_stream.synchronise()

    def close(self) -> None:
        """Give everything back."""
        if not self._open:
            return
        self._open = False
        self._gpu.use()
        self._cuda_stream.synchronise()
        self._release()
        for buffer in self._inputs.values():
            buffer.close()
        for pinned in (*self._host_outputs.values(), self._host_input):
            pinned.close()
        self._cuda_stream.close()

    def graphs_in_words(self) -> str:
        """Return how batches are launched, for people."""
        return "CUDA graphs" if self.uses_graphs else "without CUDA graphs"

    @property
    @abstractmethod
    def uses_graphs(self) -> bool:
        """Whether batches are launched as recorded graphs."""

    @abstractmethod
    def warm_up(self) -> None:
        """Prepare every size that batches run as. Raises DeviceMemoryError."""

    @abstractmethod
    def _enqueue(self, batch_size: int) -> Mapping[str, DeviceTensor]:
        """Enqueue a batch; return the outputs of the frames that were filled.

        ``_recording``: it goes into a graph, and so must be enqueued piece by piece.
        """

    def _recordable(self) -> bool:
        """Whether a batch is enqueued in the same way, at the same addresses, each time."""
        return True

    @abstractmethod
    def _release(self) -> None:
        """Give back what the subclass holds; nothing is running any more."""

    def _add_sizes(self, dtype: Any) -> DeviceBuffer | None:
        """Make the second input of DETR-style models, which never changes; None for other models."""
        for name, sizes in sizes_fed(self._spec, self._rows).items():
            buffer = self._inputs[name] = DeviceBuffer(self._gpu, sizes.shape, dtype)
            with PinnedBuffer(self._gpu, sizes.shape, dtype) as pinned:
                pinned.array[...] = sizes
                self._cuda_stream.upload(buffer.tensor.pointer, pinned.address, buffer.tensor.nbytes)
                self._cuda_stream.synchronise()
            return buffer
        return None

    def _check(self, batch_size: int) -> None:
        if not self._open:
            raise RunError(f"model {self._spec.name}: this runtime is closed.")
        if not 1 <= batch_size <= self._rows:
            raise RunError(f"model {self._spec.name}: a batch takes 1 to {self._rows} frames here, got {batch_size}.")

    def _upload(self, name: str, pinned: PinnedBuffer, rows: int) -> None:
        tensor = self._inputs[name].tensor.rows(rows)
        self._cuda_stream.upload(tensor.pointer, pinned.address, tensor.nbytes)

    def _upload_array(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        """Upload a further input; return what must stay until the stream came so far."""
        buffer = self._inputs.get(name)
        if buffer is None:
            known = ", ".join(self._inputs)
            raise RunError(f"model {self._spec.name} has no input '{name}'. It has: {known}.")
        fed = np.ascontiguousarray(array, buffer.tensor.dtype)
        if fed.nbytes > buffer.tensor.nbytes:
            raise RunError(f"model {self._spec.name}: input '{name}' takes {list(buffer.tensor.shape)} at most.")
        self._cuda_stream.upload(buffer.tensor.pointer, fed.ctypes.data, fed.nbytes)
        return fed

    def _download(self, name: str, tensor: DeviceTensor) -> NDArray[Any]:
        pinned = self._host_outputs.get(name)
        count = math.prod(tensor.shape)
        if pinned is None or pinned.array.size < count:
            largest = max(count, count // max(1, tensor.shape[0] if tensor.shape else 1) * self._rows)
            pinned = self._host_outputs[name] = PinnedBuffer(self._gpu, (largest,), tensor.dtype)
        if count:
            self._cuda_stream.download(pinned.address, tensor.pointer, tensor.nbytes)
        return pinned.array[:count].reshape(tensor.shape)

    def _as_stated(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        """Return ``array`` in the type that the model file states: some libraries narrow int64."""
        stated = self._dtypes.get(name, array.dtype)
        return array if array.dtype == stated else array.astype(stated)
