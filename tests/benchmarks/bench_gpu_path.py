"""The GPU path against the bare engine and the bare decoder, every row in one run. Needs an NVIDIA GPU.

    python -m tests.benchmarks.bench_gpu_path --runtime cuda                 # Python 3.12, ONNX Runtime
    python -m tests.benchmarks.bench_gpu_path --runtime tensorrt --only engine,graphs

Clips and networks are made on the spot (``gpu_inputs``) and kept in ``--folder``. Each measurement is a process of its
own with a time limit; what fails leaves a gap in the table, and the reason below it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pipeline.samples import find_sample
from tests.benchmarks import gpu_decode, gpu_engine, gpu_pipeline
from tests.benchmarks.gpu_inputs import long_clip, yolov8_shaped
from tests.benchmarks.gpu_table import table

STREAMS = 28
BATCH = 16
_RAMPS = {"h264": "100,140,150,160,170", "hevc": "120,180,210,230,250,270"}


def measure(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Take one measurement in this process."""
    folder, seconds = arguments.folder, arguments.seconds
    runs = gpu_engine.Runs(arguments.runtime, arguments.level, arguments.batches, arguments.slots)
    workers = arguments.workers if arguments.workers == "auto" else int(arguments.workers)
    kind, _, which = name.partition("-")

    def clip(codec: str) -> Path:
        return long_clip(codec, folder)

    def network(size: str) -> Path:
        return find_sample("street.onnx") if size == "street" else yolov8_shaped(size, folder)

    def pictures_of(gpu, count):
        kept.append(gpu_decode.pictures_on(gpu, clip("h264"), count))
        return kept[-1][1]

    kept: list[Any] = []
    if kind == "engine":
        return gpu_engine.engine(network(which), runs, BATCH, seconds, pictures_of)
    if kind == "graphs":
        return gpu_engine.graphs(network(which), runs, seconds, pictures_of)
    if kind == "decode":
        return _decode(clip(which), seconds, 4 if workers == "auto" else workers)
    if kind == "pipeline":
        size, codec = which.split("-")
        return gpu_pipeline.throughput(clip(codec), network(size), runs, arguments.streams, workers, BATCH, seconds)
    if kind == "latency":
        figures = gpu_pipeline.lateness(clip("h264"), yolov8_shaped("n", folder), runs, 3 * seconds)
        bare = gpu_engine.one_picture_ms(yolov8_shaped("n", folder), runs, seconds)
        return {**figures, "bare_decode_ms": _bare_milliseconds(clip("h264")), "bare_infer_ms": bare}
    if kind == "cameras":
        counts = [int(count) for count in (arguments.cameras or _RAMPS[which]).split(",")]
        infer = {"batch_size": BATCH, "batch_deadline": arguments.deadline}
        return gpu_pipeline.cameras(clip(which), network(arguments.model), runs, workers, infer, counts, seconds)
    raise SystemExit(f"there is no measurement '{name}'")


_PASSED_ON = (
    *("folder", "runtime", "level", "batches", "seconds", "streams", "workers", "slots", "cameras", "model"),
    "deadline",
)
MEASUREMENTS = {  # name -> seconds it may take
    "engine-s": 150,
    "engine-n": 120,
    "engine-m": 300,
    "engine-street": 120,
    "decode-h264": 60,
    "pipeline-s-h264": 180,
    "pipeline-n-h264": 150,
    "pipeline-m-h264": 180,
    "pipeline-street-h264": 150,
    "decode-hevc": 60,
    "latency": 110,
    "cameras-h264": 240,
    "cameras-hevc": 240,
    "graphs-n": 120,
}


def _decode(clip: Path, seconds: float, workers: int) -> dict[str, Any]:
    from engines.device import open_gpu
    from pipeline.decode.nvdec import Nvdec

    gpu = open_gpu()
    nvdec = Nvdec(gpu)
    figures: dict[str, Any] = {}
    for threads in (14, 28):
        bare = gpu_decode.bare(gpu, clip, threads, seconds)
        ours = gpu_decode.stages(nvdec, clip, threads, seconds)
        figures[f"bare_fps_{threads}"], figures[f"stages_fps_{threads}"] = bare["fps"], ours["fps"]
        figures[f"stages_cpu_{threads}"] = ours["cpu_seconds_per_1000"]
        figures[f"bare_cpu_{threads}"] = bare["cpu_seconds_per_1000"]
    shared = gpu_decode.stages_in_processes(clip, STREAMS, workers, seconds)
    figures["stages_fps_workers"], figures["stages_cpu_workers"] = shared["fps"], shared["cpu_seconds_per_1000"]
    return {**figures, **gpu_decode.memory_of_sessions(Nvdec(gpu), clip)}


def _bare_milliseconds(clip: Path) -> float:
    from engines.device import open_gpu

    return gpu_decode.bare_milliseconds(open_gpu(), clip)


def _in_a_process(name: str, limit: float, arguments: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.bench_gpu_path", "--measure", name]
    for option in _PASSED_ON:
        if getattr(arguments, option) is not None:
            command += [f"--{option}", str(getattr(arguments, option))]
    begun = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired as error:
        told = (error.stderr or b"").decode(errors="replace") if isinstance(error.stderr, bytes) else str(error.stderr)
        return {"error": f"took longer than {limit:.0f} s: {told[-600:]}"}
    if done.returncode:
        return {"error": f"exit code {done.returncode}: {done.stderr[-1500:]}"}
    return {**json.loads(done.stdout.splitlines()[-1]), "took_seconds": round(time.monotonic() - begun, 1)}


def main() -> None:
    """Take all measurements, or one; print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", help="take one measurement in this process and print it as JSON")
    parser.add_argument("--only", default="", help="measurements whose name begins with one of these, comma-separated")
    parser.add_argument("--runtime", default="cuda", choices=("cuda", "tensorrt", "cpu"), help="cpu: a rehearsal")
    parser.add_argument("--level", type=int, default=1, help="TensorRT's optimisation level")
    parser.add_argument("--streams", type=int, default=STREAMS)
    parser.add_argument("--workers", default="auto", help="processes that share the streams")
    parser.add_argument("--slots", type=int, default=3, help="batches that each worker has in hand")
    parser.add_argument("--batches", default=gpu_engine.PLAN_BATCHES, help="what TensorRT's plans are built for")
    parser.add_argument("--model", default="n", choices=("n", "street"), help="what cameras are looked at with")
    parser.add_argument("--cameras", help="how many of them, step by step: 60,100,120")
    parser.add_argument("--deadline", default="20ms", help="how long cameras' pictures may wait for a batch to fill")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument(
        "--folder", type=Path, default=Path("/tmp/onpace-bench"), help="where clips and networks are kept"
    )
    parser.add_argument("--json", type=Path, default=Path("bench_gpu_path.json"))
    parser.add_argument("--add", action="store_true", help="to what the JSON holds already, of the same machine")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments)), flush=True)
        os._exit(0)  # nothing of a measurement is worth an orderly end
    wanted = [part for part in arguments.only.split(",") if part]
    known = arguments.add and arguments.json.is_file()
    results: dict[str, Any] = json.loads(arguments.json.read_text())["results"] if known else {}
    machine = _machine(arguments.runtime)
    for name, limit in MEASUREMENTS.items():
        if wanted and not any(name.startswith(part) for part in wanted):
            continue
        results[name] = _in_a_process(name, limit, arguments)
        print(f"{name}: {json.dumps(results[name])}", file=sys.stderr, flush=True)
        arguments.json.write_text(json.dumps({"machine": machine, "results": results}, indent=2) + "\n")
    print(table(results, machine))


def _machine(runtime: str) -> str:
    from engines.device import find_gpus

    gpu = "no GPU" if runtime == "cpu" else find_gpus()[0].name
    threads = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/topology/thread_siblings_list")
    cores = f"{os.cpu_count()} threads of {len({path.read_text() for path in threads})} cores"
    return f"{gpu}, {cores}, Python {platform.python_version()}, runtime {runtime}"


if __name__ == "__main__":
    main()
