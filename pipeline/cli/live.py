"""The running pipeline for people: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipeline.cli.output import give_up, why
from pipeline.cli.summary import VERDICT_STYLES, console_of, number
from pipeline.clock import monotonic
from pipeline.publish.messages import StatusMessage

_log = logging.getLogger("onpace.run")

_REFRESHES_PER_SECOND = 4
_LINE_INTERVAL_SECONDS = 5.0
_SILENT_INTERVAL_SECONDS = 60.0
"""A stream that is away has nothing new to say: its log line said why."""
_MOST_CAUSES = 8
_WIDE = 105
"""Columns from which a terminal has room for everything."""


class Show(Protocol):
    """Shows the statuses."""

    def __call__(self, statuses: Sequence[StatusMessage], notice: str = "") -> None:
        """``notice``: what is to be said besides, one line."""


@contextmanager
def live_view(*, quiet: bool, to_stderr: bool) -> Iterator[Show]:
    """Give a function that shows the statuses; call it several times a second."""
    console = console_of(to_stderr)
    if quiet:
        yield lambda statuses, notice="": None
    elif console.is_terminal:
        with Live(console=console, refresh_per_second=_REFRESHES_PER_SECOND, transient=True) as live, _logs_above():

            def show(statuses: Sequence[StatusMessage], notice: str = "") -> None:
                table = table_of(statuses, wide=console.width >= _WIDE)
                live.update(Group(table, Text(notice, style="yellow")) if notice else table)

            yield show
    else:
        yield _lines(console)


@contextmanager
def _logs_above() -> Iterator[None]:
    """Let log lines scroll above the table: rich stands in for stderr while it is live."""
    handlers = [handler for handler in logging.getLogger().handlers if isinstance(handler, logging.StreamHandler)]
    streams = [handler.setStream(sys.stderr) for handler in handlers]
    try:
        yield
    finally:
        for handler, stream in zip(handlers, streams, strict=True):
            if stream is not None:
                handler.setStream(stream)


def table_of(statuses: Sequence[StatusMessage], *, wide: bool = True) -> Group:
    """Return one row a stream, and below it what is in the way of those that are not well."""
    table = Table()
    table.add_column("stream", overflow="fold", min_width=8)
    times = ("wait p95", "work p95", "headroom") if wide else ()
    for title in ("camera fps", "out fps", "age p50", "p95", *times, "dropped"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for status in statuses:
        table.add_row(
            status.stream_id,
            number(status.cadence_fps, ".1f"),
            number(status.published_fps, ".1f"),
            number(status.age_seconds.p50, ".3f"),
            number(status.age_seconds.p95, ".3f"),
            *(_times(status) if wide else ()),
            str(_dropped(status)),
            Text(status.verdict, style=VERDICT_STYLES[status.verdict]),
        )
    causes = [Text(f"{status.stream_id}: {status.cause}") for status in statuses if status.cause]
    return Group(table, *causes[:_MOST_CAUSES])


def _times(status: StatusMessage) -> tuple[str, str, str]:
    wait, work = number(status.wait_seconds_p95, ".3f"), number(status.service_seconds_p95, ".3f")
    return wait, work, number(status.headroom_streams, "+.1f")


def _lines(console: Console) -> Show:
    """A line a stream every few seconds, and at once when its verdict changes."""
    shown: dict[str, tuple[str, float]] = {}
    told = ""

    def show(statuses: Sequence[StatusMessage], notice: str = "") -> None:
        nonlocal told
        try:
            print_lines(statuses)
            if notice and not told:
                print(notice, file=console.file, flush=True)
            told = notice
        except OSError as error:
            give_up(console.file)
            _log.warning("status lines cannot be written (%s): the run goes on without them.", why(error))

    def print_lines(statuses: Sequence[StatusMessage]) -> None:
        now = monotonic()
        for status in statuses:
            verdict, at = shown.get(status.stream_id, ("", 0.0))
            interval = _LINE_INTERVAL_SECONDS if status.state == "live" else _SILENT_INTERVAL_SECONDS
            if status.verdict == verdict and now - at < interval:
                continue
            shown[status.stream_id] = (status.verdict, now)
            print(line_of(status), file=console.file, flush=True)

    return show


def _dropped(status: StatusMessage) -> int:
    return sum(count for reasons in status.dropped.values() for count in reasons.values())


def line_of(status: StatusMessage) -> str:
    """Return one stream's status as a line."""
    line = (
        f"{status.stream_id}: {status.verdict}"
        f"  camera {number(status.cadence_fps, '.1f')} fps"
        f"  published {number(status.published_fps, '.1f')} fps"
        f"  age p95 {number(status.age_seconds.p95, '.3f')} s"
        f"  dropped {_dropped(status)}"
    )
    return f"{line}  ({status.cause})" if status.cause else line
