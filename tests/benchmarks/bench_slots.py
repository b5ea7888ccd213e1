"""What one slot of a runtime takes for a batch: by way of host memory, and with everything left on the device.

    python -m tests.benchmarks.bench_slots tensorrt samples/street.onnx fp32,fp16,int8 --level 1

Prints, for each precision and batch, the median and 99th percentile in milliseconds, and frames a second with batches
enqueued back to back, and with every slot busy; and the largest difference of any output value to the CPU's on the
calibration pictures.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from engines.inspect_model import read_model_spec
from engines.runtime import DeviceSlot, PlanOptions, RuntimeOptions, open_runtime
from engines.trt.options import BuildOptions
from pipeline.accuracy.calibration import calibration_from
from pipeline.comparing.measure import pictures_per_second

_SECONDS = 1.0
_IN_A_ROW = 50


def timed(work) -> tuple[float, float]:
    """Return the median and the 99th percentile of ``work()``, in ms."""
    for _ in range(20):
        work()
    spent, until = [], time.perf_counter() + _SECONDS
    while time.perf_counter() < until:
        begun = time.perf_counter()
        work()
        spent.append(1000 * (time.perf_counter() - begun))
    return float(np.percentile(spent, 50)), float(np.percentile(spent, 99))


def outputs_of(slot, pictures) -> list[dict[str, np.ndarray]]:
    found = []
    for picture in pictures:
        slot.input[0] = picture[0]
        found.append({name: array.copy() for name, array in slot.run(1).items()})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runtime")
    parser.add_argument("model", type=Path)
    parser.add_argument("precisions")
    parser.add_argument("--level", type=int, help="optimisation level of TensorRT's builder")
    parser.add_argument("--batches", default="1,4,8")
    parser.add_argument("--calibration", default="samples/street.mp4", help="int8's pictures, and those compared")
    arguments = parser.parse_args()
    spec = read_model_spec(arguments.model)
    calibration = calibration_from([arguments.calibration], spec)
    pictures = list(calibration.tensors)
    with open_runtime("cpu", arguments.model, spec, RuntimeOptions(prefer="latency")) as cpu:
        expected = outputs_of(cpu.slots[0], pictures)
    plans = PlanOptions(build=BuildOptions(optimisation_level=arguments.level))
    batches = [int(batch) for batch in arguments.batches.split(",")]
    for precision in arguments.precisions.split(","):
        options = RuntimeOptions(precision=precision, calibration=calibration, max_batch=max(batches), plans=plans)
        with open_runtime(arguments.runtime, arguments.model, spec, options) as runtime:
            slot = runtime.slots[0]
            found = outputs_of(slot, pictures)
            worst = max(
                float(np.abs(f[name] - e[name]).max()) for f, e in zip(found, expected, strict=True) for name in e
            )
            print(f"{runtime.describe()}\n  largest difference to the CPU: {worst:.3g}")
            for batch in batches:
                report(slot, batch)
                print(f"    all slots: {pictures_per_second(runtime, batch, _SECONDS):.0f} frames/s")


def report(slot, batch: int) -> None:
    host = timed(lambda: slot.run(batch))
    print(f"  batch {batch}: host p50 {host[0]:.3f} p99 {host[1]:.3f} ms", end="")
    if isinstance(slot, DeviceSlot):
        slot.gpu.use()
        device = timed(lambda: (slot.enqueue(batch), slot.synchronise()))
        row = timed(lambda: ([slot.enqueue(batch) for _ in range(_IN_A_ROW)], slot.synchronise()))
        print(f"; device p50 {device[0]:.3f} p99 {device[1]:.3f} ms", end="")
        print(f"; back to back {row[0] / _IN_A_ROW:.4f} ms, {1000 * batch * _IN_A_ROW / row[0]:.0f} frames/s", end="")
    print()


if __name__ == "__main__":
    main()
