"""Measures the rows: a process each, all open at once, taking turns in rounds, so that noise hits all alike."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from statistics import median
from typing import Any

import numpy as np

from engines.child import python_module
from engines.cpu_session import require_precision
from engines.errors import RuntimeMissingError
from engines.precision.typed_model import CALIBRATED, no_pictures
from engines.runtime import runtime_class
from engines.trt.library import find_library
from pipeline.comparing.row import Figures, Row, Task

Say = Callable[[str], None]


def measure_rows(
    tasks: Sequence[Task], *, rounds: int, seconds: float, dataset: str | None = None, say: Say = lambda text: None
) -> list[Row]:
    """Return a row a task, in order. What cannot run has a ``status`` and a ``why``; nothing is raised for it.

    ``seconds``: of each row and batch size in each round. ``say`` hears what goes on.
    """
    rows = [Row(task.runtime, task.precision or task.file_precision) for task in tasks]
    with ExitStack() as opened:
        processes: list[tuple[Row, _Process, list[int]]] = []
        for task, row in zip(tasks, rows, strict=True):
            if (missing := _missing(task)) is not None:
                row.status, row.why = "missing", missing
                continue
            say(f"{row.runtime} {row.precision}: making and opening it")
            process, facts = _opened(row, task)
            opened.enter_context(process)
            if facts is not None:
                batches = facts.pop("batches")
                for key, value in facts.items():
                    setattr(row, key, value)
                processes.append((row, process, batches))
        _measure(processes, rounds, seconds, say)
        if dataset is not None:
            for row, process, _ in (entry for entry in processes if entry[0].status == "ok"):
                _evaluate(row, process, dataset, say)
    if dataset is not None and any(row.ap is not None for row in rows):
        _compare_accuracy(rows, tasks[0], dataset, say)
    return rows


def _missing(task: Task) -> str | None:
    """Return what a row lacks that no process of its own needs to find out."""
    if task.precision is None or task.precision not in CALIBRATED or task.calibration:
        return None
    if (why_not := runtime_class(task.runtime).why_not()) is not None:
        return str(why_not)
    try:
        if task.runtime == "tensorrt":
            find_library().require(task.precision)
        else:
            require_precision(task.runtime, task.precision)
    except RuntimeMissingError as error:
        return str(error)
    return no_pictures(task.precision)


def _opened(row: Row, task: Task) -> tuple[_Process, dict[str, Any] | None]:
    """Return a row's process, and its answer to opening; None, with the row's status, where it could not."""
    process = _Process(task)
    facts = _asked(row, process, asdict(task))
    if facts is not None and facts["made"]:
        process.close()  # another one finds it made: what building takes is not what running takes
        process = _Process(task)
        facts = _asked(row, process, asdict(task))
    if facts is not None:
        del facts["made"]
    return process, facts


def _measure(processes: Sequence[tuple[Row, _Process, list[int]]], rounds: int, seconds: float, say: Say) -> None:
    taken: dict[tuple[int, int], list[float]] = {}
    rates: dict[tuple[int, int], list[float]] = {}
    for number in range(rounds):
        if processes:
            say(f"round {number + 1} of {rounds}")
        turns = [(place, batch) for place, (_, _, batches) in enumerate(processes) for batch in batches]
        for place, batch in turns if number % 2 == 0 else reversed(turns):
            row, process, _ = processes[place]
            found = _asked(row, process, {"batch": batch, "seconds": seconds}) if row.status == "ok" else None
            if found is not None:
                taken.setdefault((place, batch), []).extend(found["durations"])
                rates.setdefault((place, batch), []).append(found["fps"])
    for place, (row, _, batches) in enumerate(processes):
        row.batches = [
            Figures(batch, len(taken[place, batch]), _latency(taken[place, batch]), median(rates[place, batch]))
            for batch in batches
            if (place, batch) in taken
        ]
        if row.batches:
            row.best_batch = max(row.batches, key=lambda figures: figures.fps).batch


def _latency(durations: Sequence[float]) -> dict[str, float]:
    ends = np.percentile(np.array(durations) * 1000, (50, 95, 99))
    return {name: float(value) for name, value in zip(("p50", "p95", "p99"), ends, strict=True)}


def _evaluate(row: Row, process: _Process, dataset: str, say: Say) -> None:
    say(f"accuracy of {row.runtime} {row.precision}")
    found = _asked(row, process, {"dataset": dataset})
    if found is not None:
        row.ap, row.ap50 = found["ap"], found["ap50"]


def _compare_accuracy(rows: Sequence[Row], task: Task, dataset: str, say: Say) -> None:
    """Fill in what is lost against the file as it is on the CPU, which is run for that where it is no row."""
    base = next((row for row in rows if (row.runtime, row.precision) == ("cpu", task.file_precision)), None)
    if base is None:
        base = Row("cpu", task.file_precision)
        process, facts = _opened(base, replace(task, runtime="cpu", precision=None, calibration=[], batches=[1]))
        with process:
            if facts is not None:
                _evaluate(base, process, dataset, say)
        if base.why:
            say(f"what is lost cannot be told: {base.why}")
    for row in rows:
        if base.ap is not None and row.ap is not None:
            row.ap_loss = 100 * (base.ap - row.ap)


def _asked(row: Row, process: _Process, command: dict[str, Any]) -> dict[str, Any] | None:
    """Return the process's answer; None, with the row's status, where it could not."""
    found = process.ask(command)
    if "error" in found:
        row.status, row.why = found["kind"], found["error"]
        return None
    return found


class _Process:
    def __init__(self, task: Task) -> None:
        self._runtime = task.runtime
        self._process: Any = subprocess.Popen(
            python_module("pipeline.comparing.worker"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, command: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to one command."""
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            code = self._process.wait()
            return {"error": f"its process ended with exit code {code} (out of memory?).", "kind": "failed"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        with suppress(BrokenPipeError):  # what a dead process was not told stays in the buffer
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
