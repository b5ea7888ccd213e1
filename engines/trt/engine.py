"""A plan, loaded: its inputs and outputs by name, and contexts that run it."""

from __future__ import annotations

from typing import Any

import numpy as np

from engines.errors import DeviceMemoryError, ModelError, PlanError, RunError
from engines.trt.builder import looks_like_no_memory
from engines.trt.library import TrtLibrary


class TrtEngine:
    """A deserialised plan on the calling thread's current GPU. It lives as long as its contexts do."""

    def __init__(self, library: TrtLibrary, plan: bytes, name: str) -> None:
        """``name`` is what messages call the plan. Raises PlanError, DeviceMemoryError."""
        self._library = library
        trt = library.trt
        with library.listening():
            self._runtime = trt.Runtime(library.logger)
            if hasattr(self._runtime, "engine_host_code_allowed"):
                # Version-compatible plans bring code of their own. It is known: the store hands out no bytes but those
                # that were built.
                self._runtime.engine_host_code_allowed = True
            engine = self._runtime.deserialize_cuda_engine(plan) if self._runtime else None
            if engine is None:
                raise _refused(library, name)
        self.engine: Any = engine
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self.inputs = tuple(inputs)
        self.outputs = tuple(name for name in names if name not in inputs)

    def dtype(self, name: str) -> np.dtype[Any]:
        """Return the NumPy type of a tensor. Raises ModelError where NumPy has none (bfloat16)."""
        kind = self.engine.get_tensor_dtype(name)
        try:
            found: np.dtype[Any] = np.dtype(self._library.trt.nptype(kind))
        except (TypeError, KeyError):
            raise ModelError(f"tensor '{name}' is of type {kind}, which cannot be read on the host.") from None
        return found

    def min_batch(self, name: str) -> int:
        """Return the fewest rows that input ``name`` takes."""
        return self._rows(name, 0)

    def max_batch(self, name: str) -> int:
        """Return the most rows that input ``name`` takes."""
        return self._rows(name, 2)

    def _rows(self, name: str, place: int) -> int:
        stated = tuple(self.engine.get_tensor_shape(name))
        if stated[0] >= 0:
            return int(stated[0])
        return int(next(iter(self.engine.get_tensor_profile_shape(name, 0)[place])))

    @property
    def context_bytes(self) -> int:
        """The scratch memory that a context needs."""
        for attribute in ("device_memory_size_v2", "device_memory_size"):
            if hasattr(self.engine, attribute):
                return int(getattr(self.engine, attribute))
        return 0

    def new_context(self, scratch: int, nbytes: int) -> Any:
        """Return a context that works in the device memory at ``scratch``. Raises RunError.

        Contexts may share that memory as long as they never run at the same time.
        """
        trt = self._library.trt
        with self._library.listening():
            if hasattr(trt, "ExecutionContextAllocationStrategy"):
                context = self.engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
            else:  # 8.6
                context = self.engine.create_execution_context_without_device_memory()
            if context is None:
                words = self._library.complaint()
                kind = DeviceMemoryError if looks_like_no_memory(words) else RunError
                raise kind(f"{self._library.flavour} gives no execution context: {words}.")
            if hasattr(context, "set_device_memory"):
                context.set_device_memory(scratch, nbytes)
            else:  # 8.6 and 10.0
                context.device_memory = scratch
        return context

    def output_shape(self, context: Any, name: str) -> tuple[int, ...]:
        """Return an output's shape once the inputs' are set. Raises ModelError where it depends on what they hold."""
        shape = tuple(int(length) for length in context.get_tensor_shape(name))
        if any(length < 0 for length in shape):
            raise ModelError(
                f"output '{name}' has another size for every picture, which this runtime does not read. Export the "
                "model without its own suppression (nms=False), or use runtime cuda or cpu."
            )
        return shape


def _refused(library: TrtLibrary, name: str) -> PlanError | DeviceMemoryError:
    words = library.complaint()
    if looks_like_no_memory(words):
        return DeviceMemoryError(
            f"plan {name} does not fit into the GPU's memory: {words}. Free some, or build it for smaller batches."
        )
    return PlanError(
        f"plan {name} cannot be loaded by {library.flavour} {library.version} on this GPU: {words}. It is cut short or "
        "damaged, or was built by another version or for another GPU. Build it again here: onpace build --rebuild, "
        "with the options of this one."
    )
