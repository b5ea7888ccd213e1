"""``onpace top``: the live table of a running pipeline, here or on another machine."""

from __future__ import annotations

import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from pipeline.cli import exit_codes
from pipeline.cli.listen import subscriber_keys
from pipeline.cli.live import Show, live_view
from pipeline.cli.output import printable
from pipeline.cli.process import seconds_of, sigterm_as_interrupt
from pipeline.clock import monotonic
from pipeline.publish.messages import StatusMessage
from pipeline.subscriber import Event, Kind, PublisherEnded, PublisherGone, PublisherRestarted, Subscriber

_LOOK_SECONDS = 0.25
_SILENT_SECONDS = 3.0
_STATUS: Kind = "status"


def top(
    endpoint: Annotated[
        str, typer.Argument(metavar="[ENDPOINT]", help="Where a pipeline publishes: tcp://HOST:PORT or ipc://PATH.")
    ] = "tcp://127.0.0.1:5555",
    stream: Annotated[list[str] | None, typer.Option(help="Only this stream; may be repeated.")] = None,
    duration: Annotated[str | None, typer.Option("--for", help='End after so long: "10s", "5m".')] = None,
    keys: Annotated[
        Path | None, typer.Option("--keys", help="Your own .key_secret file, for a publisher that asks who connects.")
    ] = None,
    publisher_key: Annotated[Path | None, typer.Option(help="The publisher's .key file, beside --keys.")] = None,
) -> int:
    """Show how the streams of a running pipeline are doing, as `onpace run` shows its own.

    Reads status messages alone. Leave with q or Ctrl-C; ends by itself when all streams have ended, or after --for.
    Exit codes: 0 done, 1 nothing came at all, or another schema version, 2 bad endpoint or option.

    [bold]Example:[/bold] onpace top tcp://10.0.0.7:5555
    """
    seconds = seconds_of("--for", duration)
    until = None if seconds is None else monotonic() + seconds
    pair = subscriber_keys(keys, publisher_key)
    view = _View()
    with Subscriber(endpoint.removeprefix("zmq:"), streams=stream, kinds=[_STATUS], keys=pair) as subscriber:
        try:
            with sigterm_as_interrupt(), _single_keys() as quits, live_view(quiet=False, to_stderr=False) as show:
                _watch(subscriber, view, show, until, quits)
        except (KeyboardInterrupt, BrokenPipeError):
            pass
    if view.last_words:
        print(printable(view.last_words), file=sys.stderr)
    if not view.heard:
        print(f"onpace: nothing came from {endpoint}. Is a pipeline publishing there?", file=sys.stderr)
        return exit_codes.FAILED
    return exit_codes.DONE


class _View:
    """What is known of the streams, and what to say about it."""

    def __init__(self) -> None:
        self.statuses: dict[str, StatusMessage] = {}
        self.heard = False
        self.notice = ""
        """What is wrong with the publisher; empty while it speaks."""
        self.last_words = ""

    def take(self, event: Event) -> bool:
        """Take in an event. Return whether it was the last one."""
        if isinstance(event, StatusMessage):
            self.heard, self.notice = True, ""
            safe = {name: printable(getattr(event, name)) for name in ("stream_id", "cause", "state", "last_error")}
            self.statuses[event.stream_id] = msgspec.structs.replace(event, **safe)
        elif isinstance(event, PublisherGone):
            self.notice = f"nothing for {event.silent_seconds:.0f} s: the publisher is gone, or cannot be reached"
        elif isinstance(event, PublisherRestarted):
            self.statuses.clear()
        elif isinstance(event, PublisherEnded):
            self.last_words = "all streams have ended"
            return True
        return False


def _watch(subscriber: Subscriber, view: _View, show: Show, until: float | None, quits: _Keys) -> None:
    started = monotonic()
    while (until is None or monotonic() < until) and not quits.pressed():
        looked = monotonic()
        while (event := subscriber.receive(max(0.0, looked + _LOOK_SECONDS - monotonic()))) is not None:
            if view.take(event):
                show(list(view.statuses.values()), "")
                return
            if monotonic() > looked + _LOOK_SECONDS:
                break
        if not view.heard and monotonic() - started > _SILENT_SECONDS:
            view.notice = f"nothing came for {monotonic() - started:.0f} s: is a pipeline publishing there?"
        show(list(view.statuses.values()), view.notice)


class _Keys:
    """The keyboard, where there is one."""

    def __init__(self, there: bool) -> None:
        self._there = there

    def pressed(self) -> bool:
        """Whether q was pressed."""
        while self._there and select.select([sys.stdin], [], [], 0)[0]:
            key = sys.stdin.read(1)
            if not key:
                self._there = False
            elif key in "qQ":
                return True
        return False


@contextmanager
def _single_keys() -> Iterator[_Keys]:
    """Get keys as they are pressed, not a line at a time, and leave the terminal as it was."""
    if not sys.stdin.isatty():
        yield _Keys(False)
        return
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield _Keys(True)
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
