"""``onpace compare``: one model on every runtime and in every precision, in one table."""

from __future__ import annotations

import json as json_format
import logging
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from engines.cores import usable_cores
from engines.model_spec import ModelSpec
from engines.precision.prepare import file_precision
from engines.precision.ranges import Method
from engines.precision.typed_model import CALIBRATED, Precision
from engines.runtime import RUNTIMES
from pipeline.accuracy.calibration import METHOD, PICTURES, calibration_from
from pipeline.accuracy.dataset import read_dataset
from pipeline.accuracy.evaluate import match_classes
from pipeline.chart import check_chart
from pipeline.cli import exit_codes
from pipeline.cli.model_facts import HELP, find_spec, parse_facts
from pipeline.cli.precision_options import CALIBRATION_HELP, METHOD_HELP, PICTURES_HELP, PRECISIONS_HELP, precisions_of
from pipeline.cli.summary import console_of
from pipeline.comparing.report import as_json, as_markdown, as_table, draw, in_words, not_measured
from pipeline.comparing.row import Row, Task
from pipeline.comparing.rows import measure_rows
from pipeline.errors import InputError
from pipeline.source.redact import redact

_CPU_BATCHES, _GPU_BATCHES = [1, 2, 4], [1, 4, 8, 16, 32]


def compare(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="ONNX detector.")],
    runtimes: Annotated[
        list[str] | None, typer.Option(help="cpu, cuda, tensorrt: comma-separated, or repeated; else all.")
    ] = None,
    precisions: Annotated[list[str] | None, typer.Option(help=PRECISIONS_HELP)] = None,
    dataset: Annotated[Path | None, typer.Option(help="Labelled pictures, as eval takes them: adds AP.")] = None,
    calibration: Annotated[list[str] | None, typer.Option(metavar="SOURCE", help=CALIBRATION_HELP)] = None,
    calibration_pictures: Annotated[int, typer.Option(min=1, max=10_000, help=PICTURES_HELP)] = PICTURES,
    calibration_method: Annotated[Method, typer.Option(help=METHOD_HELP)] = METHOD,
    batches: Annotated[str | None, typer.Option(help="Batch sizes to try, as in 1,4,16.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="CPU threads; else every core.")] = None,
    optimisation_level: Annotated[
        int | None, typer.Option(min=0, max=5, help="TensorRT: how hard to look for fast kernels; else its own, 3.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Rounds in which all rows take turns.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.05, max=60, help="Of each row and batch size in each round.")] = 1.0,
    facts: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=HELP)] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the table as Markdown.")] = None,
    chart: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Also draw a chart (extra: chart).")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else.")] = False,
) -> int:
    """Compare what a model costs on every runtime and in every precision: time, memory, accuracy.

    Each row has a process of its own; all are open at once and take turns. Latency is of one run while nothing else
    runs, throughput with every slot busy, both of inference alone: pictures are prepared already. fp16 on a CPU, which
    is slow, is measured when it is named. A file that is fp16 or quantised already is run as it is.

    Exit codes: 0 done, 1 no row could be measured, 2 bad input. What cannot run here is a row that says why.

    JSON keys: onpace; model; sha256; input \\[width, height]; machine; dataset; calibration {sources, pictures (at
    most), method}, null where no row takes it; rounds; seconds; rows, a list of {runtime, precision, status (ok,
    missing, failed), why, described, batches [{batch, runs, latency_ms {p50, p95, p99}, fps}], best_batch, host_bytes,
    gpu_bytes, file_bytes, build_seconds, ap, ap50, ap_loss}.

    [bold]Example:[/bold] onpace compare sample:street.onnx --calibration sample:street.mp4
    """
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr, force=True)
    path, spec = find_spec(model, facts or [])
    _check(spec, calibration or [], dataset, markdown, chart)
    file_is = file_precision(path)
    tasks = [
        Task(
            model=str(path),
            facts=parse_facts(facts or []),
            runtime=runtime,
            precision=precision,
            calibration=list(calibration or []),
            calibration_pictures=calibration_pictures,
            calibration_method=calibration_method,
            batches=_batches(batches, runtime),
            threads=threads,
            optimisation_level=optimisation_level,
            file_precision=file_is,
        )
        for runtime in _named(runtimes) or list(RUNTIMES)
        for precision in precisions_of("--precisions", precisions or []) or _suiting(runtime, file_is)
    ]
    progress = console_of(to_stderr=True)
    rows = measure_rows(
        tasks,
        rounds=rounds,
        seconds=seconds,
        dataset=None if dataset is None else str(dataset),
        say=lambda text: progress.print(text, markup=False, highlight=False),
    )
    machine = _machine()
    about = {
        "machine": machine,
        "dataset": dataset and str(dataset),
        "calibration": _calibration(tasks),
        "rounds": rounds,
        "seconds": seconds,
    }
    calibrated = _calibrated(tasks, rows)
    _print(rows, spec, about, calibrated, json=json)
    title = f"{spec.name} {spec.input_width}x{spec.input_height} on {in_words(machine)}"
    if markdown is not None:
        markdown.write_text(f"{title}{calibrated}\n\n{as_markdown(rows)}")
    if chart is not None:
        draw(rows, f"{title}{calibrated}", chart)
    return exit_codes.DONE if any(row.batches for row in rows) else exit_codes.FAILED


def _check(
    spec: ModelSpec, calibration: Sequence[str], dataset: Path | None, markdown: Path | None, chart: Path | None
) -> None:
    """Raise InputError for what would otherwise be found out after minutes of measuring."""
    calibration_from(calibration, spec)
    if dataset is not None:
        match_classes(spec, read_dataset(dataset))
    if markdown is not None and markdown.is_dir():
        raise InputError(f"--markdown {markdown}: is a folder. Name a file.")
    if markdown is not None and not markdown.parent.is_dir():
        raise InputError(
            f"--markdown {markdown}: the folder {markdown.parent} does not exist. Make it, or name another."
        )
    if chart is not None:
        check_chart(chart)


def _named(texts: Sequence[str] | None) -> list[str]:
    names = [name.strip() for text in texts or [] for name in text.split(",") if name.strip()]
    for name in names:
        if name not in RUNTIMES:
            raise InputError(f"--runtimes {name}: allowed are {', '.join(RUNTIMES)}.")
    return list(dict.fromkeys(names))


def _suiting(runtime: str, file_is: Precision) -> Sequence[Precision | None]:
    if file_is != "fp32":
        return [None]
    return ["fp32", "int8"] if runtime == "cpu" else ["fp32", "fp16", "int8"]


def _batches(text: str | None, runtime: str) -> list[int]:
    if text is None:
        return _CPU_BATCHES if runtime == "cpu" else _GPU_BATCHES
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 1 <= int(part) <= 256 for part in parts):
        raise InputError(f"--batches {text}: allowed are numbers from 1 to 256, as in 1,4,16.")
    return sorted({int(part) for part in parts})


def _machine() -> dict[str, Any]:
    processor = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {"processor": processor, "cores": usable_cores(), "python": platform.python_version()}


def _calibration(tasks: Sequence[Task]) -> dict[str, Any] | None:
    """Return what the rows that are calibrated take their ranges from; None without."""
    for task in tasks:
        if task.precision in CALIBRATED and task.calibration:
            sources = [redact(source) for source in task.calibration]
            return {"sources": sources, "pictures": task.calibration_pictures, "method": task.calibration_method}
    return None


def _calibrated(tasks: Sequence[Task], rows: Sequence[Row]) -> str:
    """Return the end of the title: how what was measured was calibrated. Empty where none was."""
    measured = [task for task, row in zip(tasks, rows, strict=True) if row.batches]
    about = _calibration(measured)
    return "" if about is None else f", calibrated on up to {about['pictures']} pictures by {about['method']}"


def _print(rows: list[Row], spec: ModelSpec, about: dict[str, Any], calibrated: str, *, json: bool) -> None:
    if json:
        typer.echo(json_format.dumps(as_json(rows, spec, about), indent=2))
        return
    console = console_of(to_stderr=False)
    console.print(f"{spec.name} on {in_words(about['machine'])}{calibrated}", markup=False, highlight=False)
    console.print(as_table(rows))
    for line in not_measured(rows):
        console.print(line, markup=False, highlight=False)
