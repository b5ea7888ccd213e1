"""How fast TensorRT plans are, in turns, and which of their layers take the time. Needs an NVIDIA GPU.

    python -m tests.benchmarks.plan_layers 128 ~/.cache/onpace/plans/*.plan

Prints for each plan what one run takes as a CUDA graph at that batch; by the library's own profiler, which adds a
little to each, its slowest layers and what only rearranges; and the memory that it works in. Two precisions whose
layers take the same time each, in the same memory, are one precision.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from engines.buffers import DeviceBuffer
from engines.cuda_graph import capture
from engines.device import Gpu, checked, driver, open_gpu
from engines.trt.engine import TrtEngine
from engines.trt.library import load_library
from tests.benchmarks.gpu_engine import gpu_microseconds

_WARM_UP, _RUNS, _TURNS = 5, 15, 3
_REARRANGES = ("reformat", " copy", "shuffle")


def context_for(gpu: Gpu, engine: TrtEngine, batch: int, kept: ExitStack) -> Any:
    """Return an execution context of ``engine`` for ``batch`` pictures of noise, with memory that ``kept`` holds.

    A GPU at its limit of power is faster on zeros.
    """
    random = np.random.default_rng(0)
    scratch = kept.enter_context(DeviceBuffer(gpu, (max(1, engine.context_bytes),), np.uint8)).tensor
    context = engine.new_context(scratch.pointer, scratch.nbytes)
    for name in engine.inputs:
        context.set_input_shape(name, (batch, *tuple(engine.engine.get_tensor_shape(name))[1:]))
    for name in (*engine.inputs, *engine.outputs):
        buffer = DeviceBuffer(gpu, tuple(context.get_tensor_shape(name)), engine.dtype(name))
        place = kept.enter_context(buffer).tensor
        if name in engine.inputs:
            noise = random.random(place.shape, np.float32).astype(place.dtype)
            checked(driver().cuMemcpyHtoD(place.pointer, noise.ctypes.data, noise.nbytes))
        context.set_tensor_address(name, place.pointer)
    return context


def graph_microseconds(gpu: Gpu, engines: Sequence[TrtEngine], batch: int) -> list[float]:
    """Return what one run of each takes as a CUDA graph: medians of turns."""
    with ExitStack() as kept:
        stream = kept.enter_context(gpu.new_stream("graphs"))
        contexts = [context_for(gpu, engine, batch, kept) for engine in engines]  # their graphs' kernels end with them
        graphs = []
        for context in contexts:
            run = lambda context=context: context.execute_async_v3(stream.handle)  # noqa: E731
            run()
            stream.synchronise()
            graph = capture(stream, run)
            if graph is None:
                raise SystemExit("a plan cannot be recorded as a CUDA graph")
            kept.callback(graph.close)
            graphs.append(graph)
        turns = [[gpu_microseconds(stream, graph.launch, runs=100) for graph in graphs] for _ in range(_TURNS)]
    return [float(np.median(times)) for times in zip(*turns, strict=True)]


def layer_times(gpu: Gpu, engine: TrtEngine, batch: int) -> dict[str, float]:
    """Return layer -> median milliseconds, in the order in which they run."""
    trt = load_library("tensorrt").trt
    with ExitStack() as kept:
        stream = kept.enter_context(gpu.new_stream("layers"))
        context = context_for(gpu, engine, batch, kept)
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
    gpu.use()
    engines = [TrtEngine(library, path.read_bytes(), path.name) for path in arguments.plans]
    for path, microseconds in zip(arguments.plans, graph_microseconds(gpu, engines, arguments.batch), strict=True):
        print(f"{path.name}: {microseconds:.0f} us, {1e6 * arguments.batch / microseconds:.0f} pictures/s as one graph")
    for path, engine in zip(arguments.plans, engines, strict=True):
        times = layer_times(gpu, engine, arguments.batch)
        total = sum(times.values())
        moved = [spent for name, spent in times.items() if any(word in name.lower() for word in _REARRANGES)]
        print(f"{path.name}: {len(times)} layers, {total:.3f} ms, works in {engine.context_bytes / 2**20:.0f} MiB")
        print(f"  {len(moved)} layers only rearrange: {sum(moved):.3f} ms")
        for name, spent in sorted(times.items(), key=lambda item: -item[1])[: arguments.most]:
            print(f"  {1000 * spent:8.1f} us {100 * spent / total:5.1f} %  {name[:140]}")


if __name__ == "__main__":
    main()
