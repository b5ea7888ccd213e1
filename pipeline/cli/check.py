"""``onpace check``: what a configuration would run, or everything that is wrong with it."""

from __future__ import annotations

import json as json_format
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from engines.errors import ModelError
from engines.inspect_model import read_model_spec
from engines.precision.prepare import refuse_typed
from pipeline.accuracy.calibration import calibration_address
from pipeline.cli import exit_codes
from pipeline.config.load import Loaded, load
from pipeline.config.problem import InvalidConfig, Problem
from pipeline.config.sections import StreamSection
from pipeline.errors import InputError, OnpaceError
from pipeline.plan import StreamPlan, plan_stream
from pipeline.samples import find_model, find_sample
from pipeline.source.address import parse_address
from pipeline.source.source import open_source

_PROBES_AT_ONCE = 8


def check(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML configuration.")],
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else.")] = False,
    probe: Annotated[bool, typer.Option("--probe", help="Also open every stream for a moment.")] = False,
) -> int:
    """Check a configuration and show what it would run; nothing is started.

    Exit codes: 0 good, 1 a stream could not be opened (--probe), 2 problems.

    JSON keys: ok; file; problems and warnings, each a list of {file, line, path, value, message}; streams, a list of
    {id, url, live, policy, queue_frames, probe}, where probe is null without --probe, else {ok, codec, width, height,
    message}; model; runtime; sinks. URLs hold no credentials. With problems the last four are empty or null.

    [bold]Example:[/bold] onpace check configs/cameras.yaml --probe
    """
    path = find_sample(str(config)[len("sample:") :]) if str(config).startswith("sample:") else config
    try:
        loaded = load(path)
    except InvalidConfig as error:
        if not json:
            raise
        _print_json({"ok": False, "file": str(path), "problems": [asdict(problem) for problem in error.problems]})
        return exit_codes.BAD_INPUT
    problems = _refused(loaded)
    if problems and json:
        _print_json({"ok": False, "file": str(path), "problems": [asdict(problem) for problem in problems]})
        return exit_codes.BAD_INPUT
    if problems:
        raise InvalidConfig(problems)
    report = describe(path, loaded, probe=probe)
    if json:
        _print_json(report)
    else:
        _print_plain(report, loaded)
    return exit_codes.DONE if report["ok"] else exit_codes.FAILED


def _refused(loaded: Loaded) -> list[Problem]:
    """Return what a run would refuse once it opens the files: the model, its precision, calibration sources."""
    infer, document = loaded.config.infer, loaded.document
    path = ("infer", "model")
    try:
        model = find_model(infer.model)
        read_model_spec(model, infer.facts)
        if infer.precision is not None:
            path = ("infer", "precision")
            refuse_typed(model)
    except (ModelError, InputError) as error:
        document.problem(path, str(error), document.shown(path))
    for place, source in enumerate(infer.calibration):
        try:
            calibration_address(source)
        except InputError as error:
            document.problem(("infer", "calibration", place), str(error))
    return sorted(document.problems, key=lambda problem: problem.line or 0)


def describe(path: Path, loaded: Loaded, *, probe: bool) -> dict[str, Any]:
    """Return what ``--json`` prints for a good configuration."""
    config = loaded.config
    plans = [plan_stream(section, config) for section in config.streams]
    probes: list[dict[str, Any] | None] = [None] * len(plans)
    if probe:
        with ThreadPoolExecutor(_PROBES_AT_ONCE) as threads:
            probes = list(threads.map(_probe, plans))
    streams = [
        _stream(section, plan, result) for section, plan, result in zip(config.streams, plans, probes, strict=True)
    ]
    return {
        "ok": all(result is None or result["ok"] for result in probes),
        "file": str(path),
        "warnings": [asdict(warning) for warning in loaded.warnings],
        "streams": streams,
        "model": config.infer.model,
        "runtime": config.infer.runtime,
        "sinks": config.publish.sinks,
    }


def _stream(section: StreamSection, plan: StreamPlan, probe: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "id": section.id,
        "url": parse_address(section.url).redacted,
        "live": plan.live,
        "policy": plan.policy,
        "queue_frames": plan.queue_frames,
        "probe": probe,
    }


def _probe(plan: StreamPlan) -> dict[str, Any]:
    result: dict[str, Any] = {"ok": False, "codec": None, "width": None, "height": None, "message": None}
    try:
        source = open_source(plan.url, plan.options, threading.Event())
        try:
            info = source.open()
            result.update(ok=True, codec=info.codec, width=info.size.width, height=info.size.height)
        finally:
            source.close()
    except OnpaceError as error:
        result["message"] = str(error)
    return result


def _print_json(report: dict[str, Any]) -> None:
    shape = {"ok": False, "file": "", "problems": [], "warnings": [], "streams": [], "model": None, "runtime": None}
    typer.echo(json_format.dumps({**shape, "sinks": [], **report}, indent=2))


def _print_plain(report: dict[str, Any], loaded: Loaded) -> None:
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    widest = max(len(stream["id"]) for stream in report["streams"])
    for stream in report["streams"]:
        queue = f"{'live' if stream['live'] else 'file'}, {stream['queue_frames']} frames, {stream['policy']}"
        typer.echo(f"stream   {stream['id']:<{widest}}  {stream['url']}  ({queue}){_probe_text(stream['probe'])}")
    typer.echo(f"model    {report['model']} on {report['runtime']}")
    for sink in report["sinks"]:
        typer.echo(f"sink     {sink}")
    if not report["sinks"]:
        typer.echo("sink     none: results are counted, and go nowhere")
    typer.echo(f"{report['file']}: good" if report["ok"] else f"{report['file']}: good, but not every stream opens")


def _probe_text(probe: dict[str, Any] | None) -> str:
    if probe is None:
        return ""
    if not probe["ok"]:
        return f": FAILED: {probe['message']}"
    return f": opens, {probe['codec']} {probe['width']}x{probe['height']}"
