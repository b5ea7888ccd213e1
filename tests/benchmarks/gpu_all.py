"""Everything that docs/benchmarks.md says of TensorRT on one GPU, in one go.

    python -m tests.benchmarks.gpu_all --out results --model yolov8n.onnx --dataset coco128 --calibration footage.mp4

Plans are built first, side by side, and kept in ``--out/plans.tgz``; then each measurement has the machine to itself.
What processes share the GPU does so by NVIDIA's MPS, where it is installed. Every step has a time limit, and leaves its
output in ``--out``; the last lines of it are printed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from engines.engine_store import EngineStore
from pipeline.samples import find_sample
from tests.benchmarks.gpu_inputs import long_clip, yolov8_shaped

_FOLDER = Path("/tmp/onpace-bench")
_SMALL, _LARGE = "1:16:16", "1:128:128"
_BUILD_SECONDS = 900.0
_PRINTED_LINES = 40
_COMPARE_STREET = (
    *("--precisions", "fp32,fp16,int8", "--batches", "1,8,32,128"),
    *("--calibration", "sample:street.mp4"),
)
_ONPACE = ("-c", "from pipeline.cli.main import main; main()")


class Step(NamedTuple):
    """One measurement."""

    name: str
    command: list[str]
    """What Python is given."""
    limit_seconds: float
    shares: bool = False
    """Several processes use the GPU."""


def builds(arguments: argparse.Namespace) -> dict[str, list[str]]:
    """Return the plans that the steps need: name -> arguments of ``onpace build``."""
    street = str(find_sample("street.onnx"))
    wanted = {size: [str(yolov8_shaped(size, _FOLDER)), "--precision", "fp16", "--batch", _SMALL] for size in "msn"}
    wanted["street"] = [street, "--precision", "fp16", "--batch", _SMALL]
    for precision in ("fp32", "fp16", "int8"):
        wanted[f"street-{precision}"] = [street, "--precision", precision, "--batch", _LARGE]
    wanted["street-int8"] += ["--calibration", "sample:street.mp4"]
    if arguments.model is not None:
        for precision in ("fp16", "int8"):
            wanted[f"model-{precision}"] = [str(arguments.model), "--precision", precision, "--batch", _SMALL]
        wanted["model-int8"] += calibration(arguments)
    return {name: [*options, "--optimisation-level", str(arguments.level)] for name, options in wanted.items()}


def calibration(arguments: argparse.Namespace) -> list[str]:
    """Return what int8 plans of ``--model`` take their ranges from."""
    sources = [word for source in arguments.calibration for word in ("--calibration", source)]
    return [*sources, "--calibration-pictures", str(arguments.calibration_pictures)]


def build_all(arguments: argparse.Namespace) -> None:
    """Build all plans at the same time; keep them."""
    with shared_gpu() as environment:  # m took 690 s beside twelve others in turns, and 110 s beside two by MPS
        _build_side_by_side(arguments, {**os.environ, **environment})
    with tarfile.open(arguments.out / "plans.tgz", "w:gz") as kept:
        kept.add(EngineStore().folder, "plans")


def _build_side_by_side(arguments: argparse.Namespace, environment: Mapping[str, str]) -> None:
    begun = time.monotonic()
    running = {}
    for name, options in builds(arguments).items():
        log = (arguments.out / f"build-{name}.log").open("w")
        command = [sys.executable, *_ONPACE, "build", *options]
        running[name] = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    while running and time.monotonic() - begun < _BUILD_SECONDS:
        for name, process in list(running.items()):
            if process.poll() is not None:
                print(f"{name}: exit code {process.returncode} after {time.monotonic() - begun:.0f} s", flush=True)
                del running[name]
        time.sleep(0.5)
    for name, process in running.items():
        process.kill()
        print(f"{name}: not built in {_BUILD_SECONDS:.0f} s", flush=True)


def steps(arguments: argparse.Namespace) -> list[Step]:
    """Return the measurements, the most telling first."""
    street, level = str(find_sample("street.onnx")), str(arguments.level)
    path = ["-m", "tests.benchmarks.bench_gpu_path", "--runtime", "tensorrt", "--add", "--level", level]
    path += ["--json", str(arguments.out / "gpu_path.json"), "--folder", str(_FOLDER)]
    compare = [*_ONPACE, "compare", "--runtimes", "tensorrt", "--optimisation-level", level, "--rounds", "3"]
    compare += ["--seconds", "0.4"]
    large = [str(plan.path) for plan in EngineStore().plans() if "128" in str(plan.ingredients["shapes"])]
    found = [
        Step("layers", ["-m", "tests.benchmarks.plan_layers", "128", *large], 60),
        Step("engine", [*path, "--only", "engine", "--seconds", "2"], 180),
        Step("decode", [*path, "--only", "decode", "--workers", "4", "--seconds", "2"], 120, shares=True),
        *(
            Step(
                f"pipeline-{only}",
                [*path, "--only", f"pipeline-{only}-", "--workers", workers, "--seconds", "2"],
                limit_seconds=120,
                shares=True,
            )
            for workers, only in (("8", "s"), ("3", "m"), ("8", "n"), ("8", "street"))
        ),
        Step("graphs", [*path, "--only", "graphs", "--seconds", "2"], 60),
        Step("latency", [*path, "--only", "latency", "--seconds", "8"], 120),
        *(
            Step(
                f"cameras-{codec}",
                [*path, "--only", f"cameras-{codec}", "--model", "street", "--workers", "14", "--seconds", "4"],
                limit_seconds=260,
                shares=True,
            )
            for codec in ("h264", "hevc")
        ),
        Step(
            "compare-street",
            [*compare, street, *_COMPARE_STREET],
            limit_seconds=90,
        ),
    ]
    if arguments.model is not None:
        of_model = [*compare, str(arguments.model), "--precisions", "fp16,int8", "--batches", "1,8,16"]
        of_model += calibration(arguments)
        if arguments.dataset is not None:
            of_model += ["--dataset", str(arguments.dataset)]
        found.insert(1, Step("compare-model", of_model, 120))
    return [step for step in found if not arguments.only or step.name.startswith(tuple(arguments.only.split(",")))]


@contextmanager
def shared_gpu() -> Iterator[dict[str, str]]:
    """Start MPS where it is installed; yield the environment of those who use it."""
    folder = _FOLDER / "mps"
    folder.mkdir(parents=True, exist_ok=True)
    environment = {"CUDA_MPS_PIPE_DIRECTORY": str(folder), "CUDA_MPS_LOG_DIRECTORY": str(folder)}
    control = shutil.which("nvidia-cuda-mps-control")
    if control is None:
        print("without MPS: nvidia-cuda-mps-control is not installed", flush=True)
        yield {}
        return
    subprocess.run([control, "-d"], env={**os.environ, **environment}, check=True)
    try:
        yield environment
    finally:
        subprocess.run([control], env={**os.environ, **environment}, input="quit\n", text=True, check=False)


def take(step: Step, out: Path) -> None:
    """Run one step; print the end of what it says."""
    begun, log = time.monotonic(), out / f"{step.name}.log"
    with log.open("w") as output:
        if step.shares:
            with shared_gpu() as environment:
                code = _run(step, output, environment)
        else:
            code = _run(step, output, {})
    print(f"== {step.name}: exit code {code} after {time.monotonic() - begun:.0f} s", flush=True)
    print("\n".join(log.read_text().splitlines()[-_PRINTED_LINES:]), flush=True)


def _run(step: Step, output, environment: dict[str, str]) -> int | str:
    try:
        return subprocess.run(
            [sys.executable, *step.command],
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=step.limit_seconds,
            env={**os.environ, **environment},
        ).returncode
    except subprocess.TimeoutExpired:
        return f"none within {step.limit_seconds:.0f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--level", type=int, default=1, help="optimisation level of every plan")
    parser.add_argument("--model", type=Path, help="a trained network to compare fp16 and int8 of")
    parser.add_argument("--dataset", type=Path, help="labelled pictures for it")
    parser.add_argument("--calibration", action="append", default=[], help="a video or pictures for its int8")
    parser.add_argument("--calibration-pictures", type=int, default=64)
    parser.add_argument("--only", default="", help="steps whose name begins with one of these; build: the plans")
    arguments = parser.parse_args()
    for folder in (arguments.out, _FOLDER):
        folder.mkdir(parents=True, exist_ok=True)
    for codec in ("h264", "hevc"):
        long_clip(codec, _FOLDER)
    if not arguments.only or "build" in arguments.only.split(","):
        build_all(arguments)
    for step in steps(arguments):
        take(step, arguments.out)


if __name__ == "__main__":
    main()
