"""``onpace run``: a configuration, or sources and a model, until they end."""

from __future__ import annotations

import json as json_format
import logging
import os
import sys
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from engines.errors import DeviceLostError
from pipeline.cli import exit_codes
from pipeline.cli.live import live_view
from pipeline.cli.model_facts import HELP, parse_facts
from pipeline.cli.output import give_up, why
from pipeline.cli.process import seconds_of, set_up_logging, stop_on_signals
from pipeline.cli.summary import print_summary, summarise
from pipeline.cli.targets import config_file_of, config_of
from pipeline.clock import monotonic
from pipeline.config.sections import Config, MetricsSection
from pipeline.config.values import parse_listen, parse_worker_count
from pipeline.errors import ConfigError
from pipeline.process import prepare_process, set_loaded_aside
from pipeline.publish.publish_step import status_message
from pipeline.timeline.timeline import begin_timeline
from pipeline.workers.open import Run, open_run

_REFRESH_SECONDS = 0.25


def run(
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="CONFIG | SOURCE…",
            help="A YAML configuration, or sources: a path, glob, rtsp:// address, camera:0, pattern:.",
        ),
    ],
    model: Annotated[str | None, typer.Option(help="ONNX detector; needed when sources are given.")] = None,
    facts: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=HELP)] = None,
    runtime: Annotated[str | None, typer.Option(help="auto, cpu, cuda or tensorrt.")] = None,
    sink: Annotated[
        list[str] | None, typer.Option(help="zmq:tcp://127.0.0.1:5555 or jsonl:out.jsonl; may be repeated.")
    ] = None,
    realtime: Annotated[bool, typer.Option("--realtime", help="Play files at their own pace, as cameras.")] = False,
    loop: Annotated[bool, typer.Option("--loop", help="Play files again and again.")] = False,
    duration: Annotated[
        str | None, typer.Option("--for", help='Stop so long after the streams were started: "10s", "5m".')
    ] = None,
    summary: Annotated[Path | None, typer.Option(help="Write the summary as JSON to this file.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON, and nothing else.")] = False,
    require_pace: Annotated[
        bool, typer.Option("--require-pace", help="Exit with 3 when a stream did not keep pace.")
    ] = False,
    metrics: Annotated[
        str | None, typer.Option(help="Serve /metrics, /livez, /readyz, /healthz: 127.0.0.1:9464.")
    ] = None,
    dashboard: Annotated[
        str | None, typer.Option(help="Serve the live view and the control API: 127.0.0.1:8080, or off.")
    ] = None,
    workers: Annotated[str | None, typer.Option(help="Processes that share the streams: a number, or auto.")] = None,
    stay: Annotated[bool, typer.Option("--stay", help="Go on when the last stream has ended: add others.")] = False,
    trace: Annotated[
        Path | None, typer.Option(help="Write a timeline of threads, slots and GPU that https://ui.perfetto.dev opens.")
    ] = None,
    trace_for: Annotated[str, typer.Option(help="How much of the run --trace holds, from its start on.")] = "60s",
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> int:
    """Decode, detect, publish, and judge whether the frame rate keeps up.

    [bold]Example:[/bold] onpace run rtsp://camera/1 --model yolox.onnx --sink zmq:tcp://127.0.0.1:5555
    """
    set_up_logging(log_level)
    prepare_process()
    config = config_of(
        targets,
        model=model,
        facts=parse_facts(facts or []),
        runtime=runtime,
        sinks=sink or [],
        realtime=realtime,
        loop=loop,
    )
    if metrics is not None:
        config = config.model_copy(update={"metrics": MetricsSection(listen=_listen(metrics, "--metrics"))})
    config = _with_dashboard(config, dashboard, stay=stay)
    if workers is not None:
        config = config.model_copy(update={"workers": config.workers.model_copy(update={"count": _count(workers)})})
    seconds = seconds_of("--for", duration)
    if summary is not None:
        _check_summary_file(summary)
    timeline = None if trace is None else begin_timeline(trace, seconds_of("--trace-for", trace_for) or 0.0)
    started = monotonic()
    asked_to_stop = threading.Event()
    with ExitStack() as opened:
        opened.enter_context(stop_on_signals(asked_to_stop.set))  # they count while the model is still loaded, too
        if timeline is not None:
            opened.callback(timeline.close)
        with open_run(config, config_file_of(targets), timeline=timeline) as pipeline:
            logging.getLogger("onpace.run").info("%s on %s", pipeline.spec.name, pipeline.runtime.describe())
            set_loaded_aside()
            if not asked_to_stop.is_set():
                pipeline.start()
                _watch(pipeline, asked_to_stop, None if seconds is None else monotonic() + seconds, quiet=json)
        result = summarise(pipeline, monotonic() - started, require_pace=require_pace)
        code = _report(result, summary, json=json, to_stderr=_stdout_is_taken(config))
        if isinstance(pipeline.failure, DeviceLostError):
            opened.close()
            end_without_the_gpu(code)
        return code


def _check_summary_file(file: Path) -> None:
    """A run of days must not end with a summary that cannot be written for a reason known at its start."""
    if file.is_dir():
        raise ConfigError(f"--summary {file}: is a folder. Name a file in it.")
    if not file.absolute().parent.is_dir():
        raise ConfigError(f"--summary {file}: the folder does not exist. Make it first.")
    if not os.access(file if file.exists() else file.absolute().parent, os.W_OK):
        raise ConfigError(
            f"--summary {file}: may not be written by this user. Change its permissions, or name another."
        )


def _report(result: dict[str, Any], file: Path | None, *, json: bool, to_stderr: bool) -> int:
    """Write and print the summary; return the exit code. Where one of the two fails, the other is still done."""
    code = int(result["exit_code"])
    text = json_format.dumps(result, indent=2)
    if file is not None:
        try:
            file.write_text(text + "\n")
        except OSError as error:
            print(f"onpace: --summary {file}: cannot be written: {why(error)}.", file=sys.stderr)
            code = code or exit_codes.FAILED
    stream = sys.stderr if to_stderr else sys.stdout
    try:
        if json:
            print(text, flush=True)
        else:
            print_summary(result, to_stderr=to_stderr)
    except BrokenPipeError:  # the reader has seen enough
        give_up(sys.stdout if json else stream)
    except OSError as error:
        give_up(sys.stdout if json else stream)
        print(f"onpace: the summary cannot be printed: {why(error)}.", file=sys.stderr)
        code = code or exit_codes.FAILED
    return code


def _watch(pipeline: Run, asked_to_stop: threading.Event, until: float | None, *, quiet: bool) -> None:
    """Show the pipeline until it ends by itself, by signal or by time."""
    with live_view(quiet=quiet, to_stderr=_stdout_is_taken(pipeline.config)) as show:
        while not pipeline.wait(_REFRESH_SECONDS):
            show([status_message(status) for status in pipeline.status()])
            if asked_to_stop.is_set() or (until is not None and monotonic() >= until):
                pipeline.stop()


def _stdout_is_taken(config: Config) -> bool:
    return "jsonl:-" in config.publish.sinks


def end_without_the_gpu(code: int) -> NoReturn:
    """End the process at once: what lies on a lost GPU cannot be given back, and libraries abort when they try."""
    print(
        "onpace: the GPU is lost to this process, and so it ends. Start it again; with `workers.count` above 1 in the "
        "configuration a new process takes over by itself.",
        file=sys.stderr,
    )
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


def _with_dashboard(config: Config, listen: str | None, *, stay: bool) -> Config:
    """Return ``config`` with what the command line says about the dashboard."""
    update: dict[str, Any] = {"stay": True} if stay else {}
    if listen is not None:
        update["listen"] = None if listen == "off" else _listen(listen, "--dashboard")
    return config.model_copy(update={"dashboard": config.dashboard.model_copy(update=update)})


def _listen(address: str, option: str) -> str:
    try:
        return parse_listen(address)
    except ValueError as error:
        raise ConfigError(f"{option} {address}: {error}.") from error


def _count(workers: str) -> int | Literal["auto"]:
    try:
        count: int | Literal["auto"] = parse_worker_count(int(workers) if workers.isdecimal() else workers)
        return count
    except ValueError as error:
        raise ConfigError(f"--workers {workers}: {error}.") from error
