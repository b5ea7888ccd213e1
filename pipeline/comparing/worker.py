"""A row's own process: opens one runtime, measures when told to, answers in lines of JSON.

Started by ``pipeline.comparing.rows``. The first line of standard input is a ``Task``; then one command a line. Every
answer is one line: the result, or ``{"error": ..., "kind": "missing" | "failed"}``.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from engines.builds import Builds
from engines.errors import EngineError, RuntimeMissingError
from engines.inspect_model import read_model_spec
from engines.runtime import PlanOptions, Runtime, RuntimeOptions, open_runtime
from engines.trt.options import BuildOptions
from pipeline.accuracy.calibration import calibration_from
from pipeline.accuracy.dataset import read_dataset
from pipeline.accuracy.evaluate import evaluate_on
from pipeline.comparing.measure import durations, fill, gpu_free_bytes, host_bytes, pictures_per_second
from pipeline.comparing.row import Task
from pipeline.errors import OnpaceError


class Worker:
    """One row: its runtime, opened for throughput, and on a CPU a second one opened for latency."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._model = Path(task.model)
        self._spec = read_model_spec(self._model, task.facts)
        self._builds = Builds()
        self._opened = ExitStack()
        self._runtime: Runtime | None = None
        self._quick: Runtime | None = None

    def open(self) -> dict[str, Any]:
        """Open the runtime, which builds what it needs; say what it is, what it takes, and whether it was made now."""
        free = gpu_free_bytes()
        runtime = self._open("throughput", max(self._batches()))
        fill(runtime, self._spec)
        left = gpu_free_bytes()
        facts = {
            "described": runtime.describe(),
            "batches": self._batches(),
            "host_bytes": host_bytes(),
            "gpu_bytes": None if free is None or left is None else max(0, free - left),
            "file_bytes": _size(runtime.file),
            "build_seconds": runtime.build_seconds,
            "made": any(count.result == "built" and count.builds for count in self._builds.counts()),
        }
        self._runtime = runtime
        # A CPU runtime is shaped for one or the other; any other runtime's slot alone is as quick as it gets.
        self._quick = self._open("latency", max(self._batches())) if runtime.name == "cpu" else runtime
        fill(self._quick, self._spec)
        return facts

    def measure(self, batch: int, seconds: float) -> dict[str, Any]:
        """Return ``durations`` and ``fps`` of one batch size, half the time each."""
        assert self._runtime is not None and self._quick is not None
        taken = durations(self._quick.slots[0], batch, seconds / 2)
        return {"durations": taken, "fps": pictures_per_second(self._runtime, batch, seconds / 2)}

    def evaluate(self, dataset: str) -> dict[str, Any]:
        """Return ``ap`` and ``ap50`` on a dataset."""
        assert self._quick is not None
        accuracy = evaluate_on(self._quick, self._spec, read_dataset(Path(dataset)))
        return {"ap": accuracy.ap, "ap50": accuracy.ap50}

    def close(self) -> None:
        """Give everything back."""
        self._opened.close()

    def _open(self, prefer: Any, largest: int) -> Runtime:
        options = RuntimeOptions(
            prefer=prefer,
            max_batch=largest,
            threads=self._task.threads,
            precision=self._task.precision,
            calibration=self._calibration(),
            builds=self._builds,
            plans=PlanOptions(build=BuildOptions(optimisation_level=self._task.optimisation_level)),
        )
        return self._opened.enter_context(open_runtime(self._task.runtime, self._model, self._spec, options))

    def _calibration(self) -> Any:
        task = self._task
        return calibration_from(task.calibration, self._spec, task.calibration_pictures, task.calibration_method)

    def _batches(self) -> list[int]:
        """Return the batch sizes to measure: those asked for, or the only one that the file allows."""
        fixed = self._spec.max_batch
        return [fixed] if fixed is not None else self._task.batches


def _size(file: Path) -> int | None:
    return file.stat().st_size if file.is_file() else None


def main() -> None:
    """Answer commands until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries print where they like; the answers have a way of their own

    def answer(make: Callable[[], dict[str, Any]]) -> None:
        try:
            line = make()
        except RuntimeMissingError as error:
            line = {"error": str(error), "kind": "missing"}
        except (EngineError, OnpaceError) as error:
            line = {"error": str(error), "kind": "failed"}
        except Exception as error:  # one row that breaks must not hide the others
            line = {"error": f"{type(error).__name__}: {error}", "kind": "failed"}
        answers.write(json.dumps(line) + "\n")
        answers.flush()

    worker: Worker | None = None
    for line in sys.stdin:
        asked = json.loads(line)
        if worker is None:

            def begin(task: dict[str, Any] = asked) -> dict[str, Any]:
                nonlocal worker
                worker = Worker(Task(**task))
                return worker.open()

            answer(begin)
        elif "dataset" in asked:
            answer(lambda: worker.evaluate(asked["dataset"]))  # noqa: B023 (called at once)
        else:
            answer(lambda: worker.measure(asked["batch"], asked["seconds"]))  # noqa: B023 (called at once)
    if worker is not None:
        worker.close()


if __name__ == "__main__":
    main()
