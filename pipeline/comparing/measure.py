"""Measurements inside a row's own process: durations of single runs, pictures a second of all slots, memory."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np

from engines.model_spec import ModelSpec
from engines.runtime import DeviceSlot, Runtime, Slot

_LEAST_RUNS = 5


def fill(runtime: Runtime, spec: ModelSpec) -> None:
    """Put noise of the model's pixel range into every slot's input."""
    random = np.random.default_rng(0)
    for slot in runtime.slots:
        shape = slot.input.shape[1:]
        picture = random.integers(0, 256, shape).astype(np.float32) * spec.pixels.scale
        slot.input[:] = picture.astype(slot.input.dtype)
        slot.run(runtime.max_batch)  # on a GPU: uploads it as well


def durations(slot: Slot, batch: int, seconds: float) -> list[float]:
    """Run a batch again and again on one slot, nothing else running; return the duration of each run in seconds."""
    run = _runner(slot, batch)
    run()
    taken: list[float] = []
    begun = perf_counter()
    while len(taken) < _LEAST_RUNS or perf_counter() - begun < seconds:
        started = perf_counter()
        run()
        taken.append(perf_counter() - started)
    return taken


def pictures_per_second(runtime: Runtime, batch: int, seconds: float) -> float:
    """Keep every slot busy with batches; return pictures a second."""
    ready = threading.Barrier(len(runtime.slots))
    spans: list[tuple[float, float, int]] = []
    failures: list[Exception] = []

    def keep_busy(slot: Slot) -> None:
        try:
            run = _runner(slot, batch)
            run()
            ready.wait()
            begun, done = perf_counter(), 0
            while done < 2 or perf_counter() - begun < seconds:
                run()
                done += 1
            spans.append((begun, perf_counter(), done))
        except Exception as error:  # raised again below, in the thread that asked
            failures.append(error)
            ready.abort()

    threads = [threading.Thread(target=keep_busy, args=(slot,)) for slot in runtime.slots]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:  # where one breaks, the others' barrier does
        raise next((error for error in failures if not isinstance(error, threading.BrokenBarrierError)), failures[0])
    begins, ends, runs = zip(*spans, strict=True)
    return float(sum(runs) * batch / (max(ends) - min(begins)))


def host_bytes() -> int | None:
    """Return this process's resident memory, None where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def gpu_free_bytes() -> int | None:
    """Return the free memory of the first GPU, None where there is none."""
    from engines.device import find_gpus

    try:
        gpus = find_gpus()
        return gpus[0].free_bytes() if gpus else None
    except Exception:  # a driver that is half there: the runtime says what is wrong when it is opened
        return None


def _runner(slot: Slot, batch: int) -> Callable[[], object]:
    """Return what runs one batch: on a GPU without the copies, which a pipeline on the device does not make."""
    if not isinstance(slot, DeviceSlot):
        return lambda: slot.run(batch)
    device: DeviceSlot = slot
    device.gpu.use()

    def run() -> None:
        device.enqueue(batch)
        device.synchronise()

    return run
