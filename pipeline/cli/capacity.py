"""``onpace capacity``: how many of the configured streams this machine keeps up with."""

from __future__ import annotations

import json as json_format
import logging
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table

from pipeline.capacity import Measuring, Step, largest, ramp
from pipeline.capacity import measure as measure_step
from pipeline.capacity_chart import draw
from pipeline.chart import check_chart
from pipeline.cli.summary import console_of, number
from pipeline.config.load import load_config
from pipeline.config.values import parse_duration
from pipeline.errors import ConfigError
from pipeline.process import prepare_process
from pipeline.samples import find_sample


def capacity(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML configuration.")],
    runtime: Annotated[str | None, typer.Option(help="auto, cpu, cuda or tensorrt; else as configured.")] = None,
    deadline: Annotated[
        str | None, typer.Option(help='Oldest that a published frame may be, as in "200ms"; else as configured.')
    ] = None,
    measure: Annotated[str, typer.Option(help='Length of each measurement: "5s".')] = "5s",
    most: Annotated[int, typer.Option(min=1, max=1024, help="Most streams to try.")] = 64,
    chart: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Also draw a chart (extra: chart).")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else.")] = False,
) -> int:
    """Run more and more copies of the configured streams until pace is lost; print what kept up.

    Files and patterns are played at their own pace, again and again. A camera is connected to several times: many allow
    only a few connections. Nothing is published to the configured sinks.

    Exit codes: 0 done, 1 a step failed, 2 bad input.

    JSON keys: streams (the largest number that keeps up), first_limit (the stage that gives out first),
    deadline_seconds, steps, a list of {streams, keeps_up, why, received_fps, published_fps, age_seconds {p50, p95,
    p99, max}, utilisation {stage: 0-1}, limit, headroom_streams}.

    [bold]Example:[/bold] onpace capacity configs/minimal.yaml --deadline 200ms
    """
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr, force=True)
    prepare_process()
    path = find_sample(str(config)) if str(config).startswith("sample:") else config
    loaded = load_config(path)
    if runtime is not None:
        loaded = loaded.model_copy(update={"infer": loaded.infer.model_copy(update={"runtime": runtime})})
    if chart is not None:
        check_chart(chart)
    measuring = Measuring(_seconds("--measure", measure), _seconds("--deadline", deadline) if deadline else None)
    progress = console_of(to_stderr=True)

    def run(streams: int) -> Step:
        step = measure_step(loaded, streams, measuring)
        progress.print(f"{streams} streams: {'keeps up' if step.keeps_up else step.why}", markup=False)
        return step

    steps = ramp(len(loaded.streams), most, run)
    if chart is not None:
        allowed = loaded.keepup.max_age if measuring.deadline_seconds is None else measuring.deadline_seconds
        draw(steps, f"{Path(loaded.infer.model).stem} on {loaded.infer.runtime}", allowed, chart)
    if json:
        typer.echo(json_format.dumps(report(steps, measuring), indent=2))
    else:
        _print(steps)
    return 0


def report(steps: list[Step], measuring: Measuring) -> dict[str, Any]:
    """Return what ``--json`` prints."""
    lost = [step for step in steps if not step.keeps_up]
    return {
        "streams": largest(steps),
        "first_limit": lost[0].limit if lost else None,
        "deadline_seconds": measuring.deadline_seconds,
        "steps": [{**asdict(step), "age_seconds": msgspec.structs.asdict(step.age_seconds)} for step in steps],
    }


def _print(steps: list[Step]) -> None:
    console = console_of(to_stderr=False)
    stages = list(steps[0].utilisation)
    table = Table()
    for title in ("streams", "camera fps", "out fps", "age p50", "p95", "p99", *stages, "headroom"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("keeps up")
    for step in steps:
        ages = (step.age_seconds.p50, step.age_seconds.p95, step.age_seconds.p99)
        table.add_row(
            str(step.streams),
            f"{step.received_fps:.1f}",
            f"{step.published_fps:.1f}",
            *(number(age, ".3f") for age in ages),
            *(f"{step.utilisation[stage]:.0%}".replace("%", " %") for stage in stages),
            number(step.headroom_streams, "+.1f"),
            "yes" if step.keeps_up else f"no: {step.limit}",
        )
    console.print(table)
    for step in steps:
        if step.why:
            console.print(f"{step.streams} streams: {step.why}", markup=False)
    most, lost = largest(steps), [step for step in steps if not step.keeps_up]
    if lost:
        console.print(f"{lost[0].limit} gives out first.")
    console.print(f"{most} stream{'' if most == 1 else 's'} keep{'s' if most == 1 else ''} up.")


def _seconds(option: str, value: str) -> float:
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise ConfigError(f"{option} {value}: {error}.") from error
    if not 0.01 <= seconds <= 600:
        raise ConfigError(f"{option} {value}: allowed is 10ms to 10m.")
    return seconds
