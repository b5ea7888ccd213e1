"""Builds a plan in a process of its own.

A builder computes for minutes inside a library that cannot be interrupted, calls back from threads of its own, takes
gigabytes, and may crash. As a process it can be killed at once and leaves nothing behind; whatever happens to it is an
error here and no more; and when the process that started it is gone, it ends as well.

The task travels as a pickle over standard input, which stays open: its end means that nobody waits any more. Answers
are lines of JSON on standard output; behind the last one follow the bytes of the plan and of the timing cache.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from engines import errors
from engines.child import python_module
from engines.cores import roam
from engines.model_spec import ModelSpec
from engines.shape_profile import ShapeProfile
from engines.trt.builder import build_plan, smaller_batch
from engines.trt.library import Flavour, load_library
from engines.trt.options import BuildOptions
from engines.trt.progress import Progress

_TOLD_EVERY = 0.005
"""Share of a build after which a line is sent: phases have thousands of steps."""
_LEAST_BYTES = 1 << 30
"""With less free memory on the GPU, that is the likeliest reason for whatever fails."""


@dataclass(frozen=True)
class BuildTask:
    """What is built, with what, and for which batches."""

    flavour: Flavour
    gpu: int | None
    """None where the library builds without one."""
    model: Path
    """The ONNX file that carries its types."""
    spec: ModelSpec
    shapes: ShapeProfile
    options: BuildOptions
    timing_cache: bytes = b""


def build_in_process(task: BuildTask, progress: Progress | None = None) -> tuple[bytes, bytes]:
    """Return the plan and the timing cache with what was measured for it, as ``build_plan`` does, and raise as it does.

    Cancelling ``progress`` kills the process at once. Raises RunError as well where the process dies.
    """
    progress = progress or Progress(lambda share, phase: None)
    roam()  # a builder computes on its own
    process = subprocess.Popen(python_module("engines.build_process"), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    try:
        with progress.killing(process.kill):
            try:
                process.stdin.write(pickle.dumps(task))
                process.stdin.flush()
                built = _follow(process.stdout, progress)
            except OSError:  # it is gone
                built = None
        if built is None:
            raise _died(task, progress, process.wait())
        return built
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stdin.close()


def _follow(answers: IO[bytes], progress: Progress) -> tuple[bytes, bytes] | None:
    """Return what was built; None where the process ended before it was. Raises what the process says."""
    for line in iter(answers.readline, b""):
        if not line.endswith(b"\n"):
            return None
        said = json.loads(line)
        if "error" in said:
            kind: type[Exception] = getattr(errors, said["kind"])
            raise kind(said["error"])
        if "share" in said:
            progress.reached(said["share"], said["phase"])
        else:
            plan, timings = (answers.read(said[name]) for name in ("plan", "timings"))
            whole = (len(plan), len(timings)) == (said["plan"], said["timings"])
            return (plan, timings) if whole else None
    return None


def _died(task: BuildTask, progress: Progress, code: int) -> errors.RunError:
    if progress.cancelled:
        return errors.RunError(f"model {task.spec.name}: building was cancelled.")
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    what = f"model {task.spec.name}: the process that builds its plan ended with {how}"
    if code == -signal.SIGKILL:
        return errors.DeviceMemoryError(
            f"{what}: something killed it, most likely for want of host memory. {smaller_batch(task.spec, task.shapes)}"
        )
    return errors.RunError(
        f"{what}: the library crashed. Update {task.flavour}, try another --optimisation-level, or run this model on "
        "runtime cuda or cpu."
    )


def _build(task: BuildTask, tell: Callable[[dict[str, Any]], None]) -> tuple[bytes, bytes]:
    free = None if task.gpu is None else _free_bytes(task.gpu, task.spec.name)
    told = 0.0

    def follow(share: float, phase: str) -> None:
        nonlocal told
        if share >= told:
            told = share + _TOLD_EVERY
            tell({"share": share, "phase": phase})

    library = load_library(task.flavour)
    try:
        return build_plan(
            library,
            task.model,
            task.spec,
            task.shapes,
            task.options,
            timing_cache=task.timing_cache,
            progress=Progress(follow),
        )
    except errors.PlanBuildError as error:
        raise for_want_of_memory(error, free, task.spec, task.shapes) from error


def _free_bytes(gpu: int, model_name: str) -> int:
    """Return the GPU's free memory, made current here. Raises DeviceMemoryError where not even that fits."""
    from engines.device import open_gpu

    try:
        return open_gpu(gpu).free_bytes()
    except errors.DeviceMemoryError as error:
        raise errors.DeviceMemoryError(
            f"model {model_name}: GPU {gpu} has no memory left in which to begin building, for any batch, batch 1 "
            f"included ({error}) Free GPU memory (nvidia-smi shows who holds it), or build before the pipeline runs: "
            "onpace build."
        ) from error


def for_want_of_memory(
    error: errors.PlanBuildError, free_bytes: int | None, spec: ModelSpec, shapes: ShapeProfile
) -> errors.PlanBuildError | errors.DeviceMemoryError:
    """Return what to raise for a failed build: DeviceMemoryError where there was hardly any memory on the GPU.

    Libraries that find none for their own tables complain of anything else (TensorRT 8.6: "invalid resource handle").
    """
    if free_bytes is None or free_bytes >= _LEAST_BYTES:
        return error
    return errors.DeviceMemoryError(
        f"{error} The GPU had {free_bytes / 2**20:.0f} MiB free when it began, which is most likely why: building "
        f"wants {_LEAST_BYTES >> 20} MiB and more. Free GPU memory first. {smaller_batch(spec, shapes)}"
    )


def _end_when_alone() -> None:
    """Wait until standard input ends: whoever asked for the plan is gone."""
    sys.stdin.buffer.read()
    os._exit(1)


def main() -> None:
    """Build what standard input asks for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the first one decides
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries print where they like; the answers have a way of their own

    def tell(line: dict[str, Any]) -> None:
        answers.write(json.dumps(line).encode() + b"\n")
        answers.flush()

    task: BuildTask = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_when_alone, daemon=True).start()
    try:
        plan, timings = _build(task, tell)
    except errors.EngineError as error:
        tell({"error": str(error), "kind": type(error).__name__})
    except Exception as error:  # what no other names: raised, it would end in the interpreter's own end, and a crash
        tell({"error": f"building ended with {type(error).__name__}: {error}", "kind": errors.RunError.__name__})
    else:
        tell({"plan": len(plan), "timings": len(timings)})
        answers.write(plan)
        answers.write(timings)
        answers.flush()
    os._exit(0)  # without the library's own end, which has nothing left to do


if __name__ == "__main__":
    main()
