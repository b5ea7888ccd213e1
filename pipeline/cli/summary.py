"""What a run amounted to: one dictionary with stable keys, and the table that people read.

Keys (all of them always there; times in seconds):
``onpace`` version, ``exit_code``, ``verdict`` (the worst stream's), ``kept_pace``, ``duration_seconds``, ``error``,
``model``, ``runtime``, ``sinks`` {address: messages lost}, ``streams``: a list of ``id``, ``received``, ``published``,
``dropped`` {stage: {reason: frames}}, ``in_flight``, ``fps``, ``cadence_fps``, ``age_seconds`` {p50, p95, p99, max},
``wait_seconds_p95``, ``service_seconds_p95``, ``verdict``, ``cause``, ``kept_pace``, ``reconnects``,
``capture_clock``, ``error``.
"""

from __future__ import annotations

import errno
import os
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

import pipeline as onpace
from pipeline.cli import exit_codes
from pipeline.keepup.status import StreamStatus
from pipeline.keepup.verdict import SEVERITY
from pipeline.workers.open import Run

VERDICT_STYLES = {
    "keeping_up": "green",
    "ended": "dim",
    "paused": "dim",
    "starting": "dim",
    "falling_behind": "yellow",
    "overloaded": "red",
    "reconnecting": "yellow",
    "black": "red",
    "frozen": "red",
    "stalled": "red",
    "offline": "red",
}


_WIDE = 105
"""Columns from which there is room for every figure."""


def summarise(pipeline: Run, duration_seconds: float, *, require_pace: bool) -> dict[str, Any]:
    """Return the summary of a finished pipeline, its exit code included."""
    statuses = pipeline.status()
    model, runtime = pipeline.model_and_runtime
    kept_pace = all(status.final.kept_pace for status in statuses)
    failed = pipeline.failure is not None or pipeline.streams.failed() or any(pipeline.sinks_lost().values())
    if failed:
        exit_code = exit_codes.FAILED
    elif require_pace and not kept_pace:
        exit_code = exit_codes.NOT_ON_PACE
    else:
        exit_code = exit_codes.DONE
    return {
        "onpace": onpace.__version__,
        "exit_code": exit_code,
        "verdict": max((status.final.verdict for status in statuses), key=SEVERITY.index, default="ended"),
        "kept_pace": kept_pace,
        "duration_seconds": round(duration_seconds, 3),
        "error": str(pipeline.failure) or type(pipeline.failure).__name__ if pipeline.failure else "",
        "model": model,
        "runtime": runtime,
        "sinks": pipeline.sinks_lost(),
        "streams": [_stream(status) for status in statuses],
    }


def _stream(status: StreamStatus) -> dict[str, Any]:
    life = status.lifetime
    return {
        "id": status.stream_id,
        "received": status.ledger.received,
        "published": status.ledger.published,
        "dropped": status.ledger.dropped,
        "in_flight": status.ledger.in_flight_total,
        "fps": _rounded(life.published_fps, 2),
        "cadence_fps": _rounded(life.received_fps, 2),
        "age_seconds": {key: _rounded(age, 4) for key, age in msgspec.structs.asdict(life.age_seconds).items()},
        "wait_seconds_p95": _rounded(life.wait_seconds_p95, 4),
        "service_seconds_p95": _rounded(life.service_seconds_p95, 4),
        "verdict": status.final.verdict,
        "cause": status.final.cause,
        "kept_pace": status.final.kept_pace,
        "reconnects": status.reconnects,
        "capture_clock": status.capture_clock,
        "error": status.last_error,
    }


def print_summary(summary: dict[str, Any], *, to_stderr: bool = False) -> None:
    """Print the summary as a table, a line a stream."""
    console = console_of(to_stderr)
    table = Table(title=Text(f"{summary['model']} on {summary['runtime']}, {summary['duration_seconds']:.1f} s"))
    ages = ("p50", "p95", "p99") if console.width >= _WIDE else ("p95",)
    table.add_column("stream", overflow="fold", min_width=8)
    for title in ("received", "published", "dropped", "fps", *(f"age {age}" for age in ages)):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for stream in summary["streams"]:
        dropped = sum(sum(reasons.values()) for reasons in stream["dropped"].values())
        verdict = stream["verdict"]
        table.add_row(
            stream["id"],
            str(stream["received"]),
            str(stream["published"]),
            str(dropped),
            number(stream["fps"], ".1f"),
            *(number(stream["age_seconds"][age], ".3f") for age in ages),
            f"[{VERDICT_STYLES[verdict]}]{verdict}[/]",
        )
    console.print(table)
    for stream in summary["streams"]:
        for stage, reasons in stream["dropped"].items():
            causes = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
            console.print(
                f"{stream['id']}: dropped at {stage}: {causes}", markup=False, soft_wrap=not console.is_terminal
            )
        for text in dict.fromkeys((stream["cause"], stream["error"])):
            if text:
                console.print(f"{stream['id']}: {text}", markup=False, soft_wrap=not console.is_terminal)
    for address, lost in summary["sinks"].items():
        if lost:
            console.print(
                f"{address}: {lost} messages could not be handed on", markup=False, soft_wrap=not console.is_terminal
            )
    if summary["error"]:
        console.print(f"failed: {summary['error']}", markup=False, soft_wrap=not console.is_terminal)


def console_of(to_stderr: bool) -> Console:
    """Return where people read; elsewhere than on a terminal, tables get room for their columns."""
    console = _Console(stderr=to_stderr, highlight=False)
    return console if console.is_terminal else _Console(stderr=to_stderr, highlight=False, width=110)


class _Console(Console):
    """Leaves it to the caller what a reader that is gone means; rich would end the process."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def number(value: float | None, form: str) -> str:
    """Format a figure, or a dash where there is none."""
    return "-" if value is None else format(value, form)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
