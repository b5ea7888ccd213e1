"""The engine alone, the kernels around it, and what CUDA graphs save. Each function returns figures by name."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engines.buffers import DeviceBuffer
from engines.device import checked, driver
from engines.inspect_model import read_model_spec
from engines.runtime import PlanOptions, RuntimeOptions, open_runtime
from engines.shape_profile import ShapeProfile
from engines.trt.options import BuildOptions
from pipeline.config.sections import PostprocessSection
from pipeline.detections import ScoreLimits
from pipeline.frame import Frame
from pipeline.infer.batch import Batch
from pipeline.infer.open_step import open_step
from pipeline.infer.run_pace import RunPace
from pipeline.keepup.load import BusyClock

PLAN_BATCHES = "1:16:16"
"""One plan for all measurements: building one takes a minute."""
_IN_A_ROW = 20
_COPIED_BYTES = 1 << 30


@dataclass(frozen=True)
class Runs:
    """What the networks are run by, in fp16."""

    runtime: str
    level: int = 1
    """TensorRT's optimisation level."""
    batches: str = PLAN_BATCHES
    slots: int = 3
    """Batches in hand, of each process of a pipeline."""

    def opened(self, model: Path, batch: int, *, graphs: bool = True):
        """Return a runtime of ``model``."""
        shapes = ShapeProfile.parse(self.batches)
        plans = PlanOptions(cuda_graphs=graphs, build=BuildOptions(optimisation_level=self.level), shapes=shapes)
        options = RuntimeOptions(precision="fp16", max_batch=batch, plans=plans, streams=16)
        return open_runtime(self.runtime, model, read_model_spec(model), options)


def step_of(spec, slot):
    """Return what the pipeline runs in ``slot``: preprocess, infer, postprocess."""
    limits, busy, pace = ScoreLimits(0.25, 0.25), BusyClock(), RunPace(just_in_time=lambda: False)
    step = open_step(spec, slot, PostprocessSection(), busy, busy, pace, lambda stream_id: limits, None)
    step.warm_up()
    return step


def batch_of(pictures, count: int) -> Batch:
    """Return ``count`` frames of ``pictures`` on the device."""
    frames = [
        Frame("bench", 1, row, one.planes, one.colour, one.rotation, 0.0, 0.0, 0.0, 0.0, "file", 0.0)
        for row, one in enumerate(pictures[:count])
    ]
    return Batch(0, frames, 0.0)


def engine_fps(runtime, batch: int, seconds: float) -> float:
    """Return frames a second of inference alone on resident input, launched back to back: the best of one slot, two,
    and so on."""
    launches = []
    with ExitStack() as kept:
        for slot in runtime.slots:
            slot.gpu.use()
            slot.enqueue(batch)
            slot.synchronise()
            graph = slot.record(lambda slot=slot: slot.enqueue(batch))
            if graph is not None:
                kept.callback(graph.close)
            launches.append((slot, graph.launch if graph is not None else lambda slot=slot: slot.enqueue(batch)))
        return max(rate(launches[: count + 1], batch, seconds) for count in range(len(launches)))


def rate(launches, batch: int, seconds: float) -> float:
    """Return frames a second of ``launches``, pairs of a slot and what to call, each in a thread."""
    counts = [0] * len(launches)
    ended: list[float] = []
    begin = time.perf_counter() + 0.05

    def work(index: int) -> None:
        slot, launch = launches[index]
        slot.gpu.use()
        while time.perf_counter() < begin + seconds:
            for _ in range(_IN_A_ROW):
                launch()
            slot.synchronise()
            counts[index] += _IN_A_ROW * batch
        ended.append(time.perf_counter())

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(launches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (max(ended) - begin)


def latency(work, seconds: float) -> tuple[float, float]:
    """Return the median and the 99th percentile of ``work()``, in ms."""
    spent, until = [], time.perf_counter() + seconds
    for _ in range(20):
        work()
    while time.perf_counter() < until:
        begun = time.perf_counter()
        work()
        spent.append(1000 * (time.perf_counter() - begun))
    return float(np.percentile(spent, 50)), float(np.percentile(spent, 99))


def gpu_microseconds(stream, enqueue, runs: int = 200) -> float:
    """Return the GPU's time for one ``enqueue``, by events."""
    first, last = (checked(driver().cuEventCreate(0)) for _ in range(2))
    for _ in range(20):
        enqueue()
    stream.synchronise()
    checked(driver().cuEventRecord(first, stream.handle))
    for _ in range(runs):
        enqueue()
    checked(driver().cuEventRecord(last, stream.handle))
    stream.synchronise()
    return float(checked(driver().cuEventElapsedTime(first, last))) / runs * 1000


def bandwidth(gpu) -> float:
    """Return bytes a second of a copy within the device's memory, read and written both counted."""
    stream = gpu.new_stream("copy")
    with (
        DeviceBuffer(gpu, (_COPIED_BYTES,), np.uint8) as source,
        DeviceBuffer(gpu, (_COPIED_BYTES,), np.uint8) as other,
    ):
        pointers = other.tensor.pointer, source.tensor.pointer
        copy = lambda: checked(driver().cuMemcpyDtoDAsync(*pointers, _COPIED_BYTES, stream.handle))  # noqa: E731
        return 2 * _COPIED_BYTES / gpu_microseconds(stream, copy, runs=20) * 1e6


def engine(model: Path, runs: Runs, batch: int, seconds: float, pictures_of) -> dict[str, float]:
    """The engine at ``batch``, on pictures in the slots' inputs; and the kernels before and after it."""
    figures: dict[str, float] = {}
    with runs.opened(model, batch) as running, ExitStack() as kept:
        slot = running.slots[0]
        slot.gpu.use()
        pictures = pictures_of(slot.gpu, batch)
        work = batch_of(pictures, batch)
        step = filled(running, model, work, kept)
        figures["recorded_batches"] = step.recorded
        figures["boxes"] = len(work.inferred[0].detections)
        figures["fps"] = engine_fps(running, batch, seconds)
        figures["engine_us"] = gpu_microseconds(slot.cuda_stream, lambda: slot.enqueue(batch))
        prepare, read = step._preprocess, step._postprocess
        outputs = slot.enqueue(batch)
        figures["preprocess_us"] = gpu_microseconds(slot.cuda_stream, lambda: prepare.enqueue(batch))
        figures["heads_us"] = gpu_microseconds(slot.cuda_stream, lambda: read.enqueue(outputs, batch))
        size = pictures[0].planes.size
        moved = batch * size.width * size.height * 1.5 + slot.device_input.nbytes
        figures["preprocess_bytes"], figures["bandwidth"] = moved, bandwidth(slot.gpu)
    return figures


def filled(running, model: Path, work: Batch, kept: ExitStack):
    """Put the pictures of ``work`` into every slot's input, where they stay; return the first slot's step.

    A GPU at its limit of power is faster on zeros than on pictures.
    """
    steps = []
    for slot in running.slots:
        slot.gpu.use()
        steps.append(step_of(read_model_spec(model), slot))
        kept.callback(steps[-1].close)
        steps[-1](work)
    running.slots[0].gpu.use()
    return steps[0]


def graphs(model: Path, runs: Runs, seconds: float, pictures_of) -> dict[str, float]:
    """Batch 1 with and without CUDA graphs: inference alone, and the slot's whole way."""
    figures: dict[str, float] = {}
    for name, wanted in (("on", True), ("off", False)):
        with runs.opened(model, 1, graphs=wanted) as running:
            slot = running.slots[0]
            slot.gpu.use()
            pictures = pictures_of(slot.gpu, 1)
            figures[f"engine_ms_{name}"], figures[f"engine_ms_p99_{name}"] = _engine_ms(slot, seconds)
            figures[f"engine_fps_{name}"] = engine_fps(running, 1, seconds)
            steps = [step_of(read_model_spec(model), one) for one in running.slots]
            try:
                figures[f"recorded_{name}"] = steps[0].recorded
                frames = batch_of(pictures, 1).frames
                figures[f"slot_ms_{name}"], figures[f"slot_ms_p99_{name}"] = latency(
                    lambda step=steps[0], frames=frames: step(Batch(0, frames, 0.0)), seconds
                )
                figures[f"slots_fps_{name}"] = _steps_rate(running.slots, steps, frames, seconds)
            finally:
                for step in steps:
                    step.close()
    return figures


def one_picture_ms(model: Path, runs: Runs, seconds: float) -> float:
    """Return the median time of inference alone at batch 1, from launching it to its end."""
    with runs.opened(model, 1) as running:
        running.slots[0].gpu.use()
        return _engine_ms(running.slots[0], seconds)[0]


def _engine_ms(slot, seconds: float) -> tuple[float, float]:
    """Return the median and the 99th percentile of one run at batch 1, as a graph where graphs are wanted."""
    slot.enqueue(1)
    slot.synchronise()
    graph = slot.record(lambda: slot.enqueue(1))
    launch = (lambda: slot.enqueue(1)) if graph is None else graph.launch
    try:
        return latency(lambda: (launch(), slot.synchronise()), seconds)
    finally:
        if graph is not None:
            graph.close()


def _steps_rate(slots, steps, frames, seconds: float) -> float:
    """Return frames a second through all slots at once, each in a thread."""
    counts = [0] * len(steps)
    until = time.perf_counter() + seconds

    def work(index: int) -> None:
        slots[index].gpu.use()
        while time.perf_counter() < until:
            steps[index](Batch(0, frames, 0.0))
            counts[index] += len(frames)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(steps))]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - begun)
