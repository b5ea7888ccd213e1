"""What a frame of the GPU path costs the processor and Python's lock, measured without a GPU.

    python -m tests.benchmarks.bench_host_path                     # needs gcc, and Onpace's `cuda` extra
    python -m tests.benchmarks.bench_host_path --streams 40 --live

Driver and decoder are stand-ins (``stand_in``) that take their time asleep; the model finds the same twelve boxes in
every picture. All else is the pipeline's own: reading, threads, slots, tracking, ZeroMQ with a subscriber. So it says
nothing of a GPU's speed, and how many frames a second one process could hand on at most. Each row is a process of its
own; they take turns over the rounds.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent / "stand_in"
_BOXES = 12
_BATCH = 16
_SLOTS = 3
_SETTLE_SECONDS = 8.0
"""Cameras that begin together make up for it first."""


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """Run the pipeline in this process for a while."""
    import pipeline.pipeline
    from engines.cores import keep_to
    from engines.inspect_model import read_model_spec
    from pipeline.config.load import config_from_mapping
    from pipeline.process import prepare_process
    from pipeline.samples import find_sample
    from tests.benchmarks.gpu_inputs import long_clip
    from tests.benchmarks.gpu_subscriber import Subscriber

    driver = ctypes.CDLL("libcuda.so.1")
    driver.stand_in_set(ctypes.c_double(arguments.engine_ms / 1000), ctypes.c_double(arguments.decode_ms / 1000))
    runtime = _without_gpu()
    pipeline.pipeline.open_model = lambda config, model, spec, plans, builds: (  # type: ignore[attr-defined]
        runtime(read_model_spec(model), model),
        None,
    )
    one_core = arguments.cores == "one"
    prepare_process(alone=True)
    clip, model = long_clip("h264", arguments.folder), find_sample("street.onnx")
    streams = [
        {"id": f"s{number}", "url": str(clip), "loop": True, "realtime": arguments.live}
        for number in range(arguments.streams)
    ]
    address = f"ipc://{arguments.folder}/host-path-{os.getpid()}"
    config = config_from_mapping(
        {
            "streams": streams,
            "infer": {"model": str(model), "batch_size": _BATCH, "batch_deadline": "15ms"},
            "decode": {"device": "gpu"},
            "track": {"tracker": "bytetrack"},
            "keepup": {"window": "3s"},
            "publish": {"sinks": [f"zmq:{address}"]},
        },
        origin="benchmark",
    )
    subscriber = Subscriber(address)
    try:
        with pipeline.pipeline.Pipeline(config) as running:
            running.start()
            if one_core:
                keep_to(frozenset({max(os.sched_getaffinity(0))}))
            until = time.monotonic() + 30.0
            while min(one.ledger.published for one in running.status()) < 5 and time.monotonic() < until:
                time.sleep(0.1)
            time.sleep(_SETTLE_SECONDS if arguments.live else 2.0)
            subscriber.parts_ms()
            before, (count, begun) = resource.getrusage(resource.RUSAGE_SELF), subscriber.received()
            time.sleep(arguments.seconds)
            after, (later, ended) = resource.getrusage(resource.RUSAGE_SELF), subscriber.received()
            age = subscriber.parts_ms()["age"]
    finally:
        subscriber.close()
    frames = max(1, later - count)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "fps": frames / (ended - begun),
        "cpu_seconds_per_1000": 1000 * spent / frames,
        "switches_a_frame": (after.ru_nvcsw - before.ru_nvcsw) / frames,
        "age_ms_p95": age[1],
    }


def _without_gpu() -> Any:
    """Return a runtime whose slots run nothing, and have the kernels around it do nothing but find boxes."""
    import numpy as np

    import pipeline.postprocess.device as after
    import pipeline.preprocess.device as before
    from engines.buffers import DeviceBuffer
    from engines.device import open_gpu
    from engines.gpu_slot import GpuSlot

    class Slot(GpuSlot):
        def __init__(self, number, spec, gpu):
            super().__init__(gpu, f"infer-{number}", spec, _BATCH)
            shapes = {
                output.name: [size if isinstance(size, int) else _BATCH for size in output.shape]
                for output in spec.outputs
            }
            self._made = {name: DeviceBuffer(gpu, tuple(shape), np.float32).tensor for name, shape in shapes.items()}

        @property
        def uses_graphs(self):
            return False

        def warm_up(self):
            pass

        def _enqueue(self, batch_size):
            return self._made

        def _release(self):
            pass

    class Runtime:
        name, build_seconds, concurrent_runs, max_batch = "stand-in", 0.0, _SLOTS, _BATCH

        def __init__(self, spec, model):
            gpu = open_gpu()
            self.file = model
            self.slots = tuple(Slot(number, spec, gpu) for number in range(_SLOTS))

        def describe(self):
            return self.name

        def close(self):
            pass

    for side in (before, after):
        side.load_kernel = side.launch = lambda *_: None  # type: ignore[assignment]
    begin = after.DevicePostprocess.__init__

    def find_boxes(self, *values, **options):
        begin(self, *values, **options)
        self._read.array[:, 0] = _BOXES
        for box in range(_BOXES):
            left, top, word = box % 6 * 300 + 20, box // 6 * 400 + 50, after.HEADER + after.ROW * box
            values = np.array([left, top, left + 120, top + 200, 0.9 - 0.02 * box], np.float32)
            self._read.array[:, word : word + 5] = values.view(np.int32)
            self._read.array[:, word + 5] = box % 3

    after.DevicePostprocess.__init__ = find_boxes  # type: ignore[method-assign]
    after.DevicePostprocess.download = lambda self, count: None  # type: ignore[method-assign]
    return Runtime


def main() -> None:
    """Compile the driver, take turns, print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--live", action="store_true", help="at the files' own pace, as cameras")
    parser.add_argument("--engine-ms", type=float, default=0.5, help="that a batch takes")
    parser.add_argument("--decode-ms", type=float, default=0.2, help="that a picture takes in one of seven decoders")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cores", choices=("any", "one"), help="take one measurement in this process")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "onpace-bench")
    parser.add_argument("--json", type=Path, default=Path("bench_host_path.json"))
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if arguments.cores:
        print(json.dumps(measure(arguments)), flush=True)
        os._exit(0)
    library = arguments.folder / "libcuda.so.1"
    subprocess.run(
        ["gcc", "-O1", "-shared", "-fPIC", "-o", library, _HERE / "libcuda.c", "-lpthread", "-ldl"], check=True
    )
    paths = [str(_HERE), *sys.path[:1], os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(arguments.folder), "PYTHONPATH": os.pathsep.join(paths)}
    rows: dict[str, list[dict[str, float]]] = {"any": [], "one": []}
    for _ in range(arguments.rounds):
        for cores, found in rows.items():
            command = [sys.executable, "-m", "tests.benchmarks.bench_host_path", "--cores", cores, *sys.argv[1:]]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=120)
            found.append(json.loads(done.stdout.splitlines()[-1]))
    medians = {
        cores: {name: statistics.median(one[name] for one in found) for name in found[0]}
        for cores, found in rows.items()
    }
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, {arguments.streams} streams"
    print(f"{machine}, {'live' if arguments.live else 'files'}, medians of {arguments.rounds} rounds\n")
    print(f"{'cores':>6} {'fps':>8} {'CPU-s per 1,000':>16} {'switches a frame':>17} {'age p95, ms':>12}")
    for cores, one in medians.items():
        figures = (one["fps"], one["cpu_seconds_per_1000"], one["switches_a_frame"], one["age_ms_p95"])
        print("{:>6} {:>8.0f} {:>16.3f} {:>17.1f} {:>12.1f}".format(cores, *figures))
    arguments.json.write_text(json.dumps({"machine": machine, "rounds": rows, "medians": medians}, indent=2) + "\n")


if __name__ == "__main__":
    main()
