"""The engine alone in several processes on one GPU, and in several slots of each. Needs an NVIDIA GPU and TensorRT.

    python -m tests.benchmarks.gpu_shared m 1 2 4

How much of one engine's rate is left where workers share the GPU, before there is anything else to do. Start it with
NVIDIA's MPS (docs/workers.md): without it, processes take turns.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks import gpu_decode, gpu_engine
from tests.benchmarks.bench_gpu_path import BATCH
from tests.benchmarks.gpu_inputs import long_clip, yolov8_shaped

_MOST_SLOTS = 3
_READY_SECONDS, _SECONDS, _PAUSE = 14.0, 2.0, 0.6


def together(size: str, processes: int, folder: Path) -> list[float]:
    """Return pictures a second of all ``processes`` with one slot each, with two, and with three."""
    begin = time.time() + _READY_SECONDS
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.gpu_shared",
        size,
        "--begin",
        str(begin),
        "--folder",
        str(folder),
    ]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    rows = [[float(word) for word in process.communicate()[0].split()] for process in running]
    if any(len(row) != _MOST_SLOTS for row in rows):
        raise SystemExit("a process could not run: its error is above")
    return [sum(rates) for rates in zip(*rows, strict=True)]


def one(size: str, begin: float, folder: Path) -> None:
    """Be one of those processes: print the rate with one slot, with two, and with three, at the times agreed upon."""
    model = yolov8_shaped(size, folder)
    with gpu_engine.Runs("tensorrt").opened(model, BATCH) as runtime, ExitStack() as kept:
        nvdec, pictures = gpu_decode.pictures_on(runtime.slots[0].gpu, long_clip("h264", folder), BATCH)
        kept.callback(nvdec.close)
        gpu_engine.filled(runtime, model, gpu_engine.batch_of(pictures, BATCH), kept)
        launches = []
        for slot in runtime.slots:
            slot.gpu.use()
            graph = slot.record(lambda slot=slot: slot.enqueue(BATCH))
            kept.callback(graph.close)
            launches.append((slot, graph.launch))
        for count in range(_MOST_SLOTS):
            time.sleep(max(0.0, begin + count * (_SECONDS + _PAUSE) - time.time()))
            print(gpu_engine.rate(launches[: count + 1], BATCH, _SECONDS), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("size", choices=("n", "s", "m"))
    parser.add_argument("processes", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--begin", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/onpace-bench"))
    arguments = parser.parse_args()
    if arguments.begin is not None:
        one(arguments.size, arguments.begin, arguments.folder)
        os._exit(0)  # nothing of a measurement is worth an orderly end
    arguments.folder.mkdir(parents=True, exist_ok=True)
    long_clip("h264", arguments.folder)
    gpu_engine.Runs("tensorrt").opened(yolov8_shaped(arguments.size, arguments.folder), BATCH).close()  # plan and all
    print("processes   one slot each   two     three     (pictures/s of all)")
    for processes in arguments.processes:
        rates = together(arguments.size, processes, arguments.folder)
        print(f"{processes:9}   {'   '.join(f'{rate:8.0f}' for rate in rates)}", flush=True)


if __name__ == "__main__":
    main()
