"""Which layers of TensorRT plans take the time, by the library's own profiler. Needs an NVIDIA GPU.

    python -m tests.benchmarks.plan_layers 128 ~/.cache/onpace/plans/*.plan

Prints for each plan its slowest layers at that batch, what only rearranges, and the memory that it works in. Two
precisions whose layers take the same time each, in the same memory, are one precision.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from engines.buffers import DeviceBuffer
from engines.device import Gpu, open_gpu
from engines.trt.engine import TrtEngine
from engines.trt.library import load_library

_WARM_UP, _RUNS = 5, 15
_REARRANGES = ("reformat", " copy", "shuffle")


def layer_times(gpu: Gpu, engine: TrtEngine, batch: int) -> dict[str, float]:
    """Return layer -> median milliseconds, in the order in which they run."""
    trt = load_library("tensorrt").trt
    with ExitStack() as kept:
        stream = kept.enter_context(gpu.new_stream("layers"))
        scratch = kept.enter_context(DeviceBuffer(gpu, (max(1, engine.context_bytes),), np.uint8)).tensor
        context = engine.new_context(scratch.pointer, scratch.nbytes)
        for name in engine.inputs:
            context.set_input_shape(name, (batch, *tuple(engine.engine.get_tensor_shape(name))[1:]))
        for name in (*engine.inputs, *engine.outputs):
            buffer = DeviceBuffer(gpu, tuple(context.get_tensor_shape(name)), engine.dtype(name))
            stream.clear(kept.enter_context(buffer).tensor.pointer, buffer.tensor.nbytes)
            context.set_tensor_address(name, buffer.tensor.pointer)
        found: dict[str, list[float]] = {}

        class Profiler(trt.IProfiler):
            def report_layer_time(self, name, milliseconds):
                found.setdefault(name, []).append(milliseconds)

        for run in range(_WARM_UP + _RUNS):
            if run == _WARM_UP:
                profiler = Profiler()
                context.profiler = profiler
            context.execute_async_v3(stream.handle)
            stream.synchronise()
        del context
    return {name: float(np.median(times)) for name, times in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("batch", type=int)
    parser.add_argument("plans", type=Path, nargs="+")
    parser.add_argument("--most", type=int, default=16, help="layers to print of each plan")
    arguments = parser.parse_args()
    gpu, library = open_gpu(), load_library("tensorrt")
    for path in arguments.plans:
        engine = TrtEngine(library, path.read_bytes(), path.name)
        times = layer_times(gpu, engine, arguments.batch)
        total = sum(times.values())
        moved = [spent for name, spent in times.items() if any(word in name.lower() for word in _REARRANGES)]
        print(f"{path.name}: {len(times)} layers, {total:.3f} ms, works in {engine.context_bytes / 2**20:.0f} MiB")
        print(f"  {len(moved)} layers only rearrange: {sum(moved):.3f} ms")
        for name, spent in sorted(times.items(), key=lambda item: -item[1])[: arguments.most]:
            print(f"  {1000 * spent:8.1f} us {100 * spent / total:5.1f} %  {name[:140]}")


if __name__ == "__main__":
    main()
