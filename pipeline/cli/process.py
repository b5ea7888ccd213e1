"""What commands that run for long share: their log, their time limit, and how signals end them."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from pipeline.config.values import parse_duration
from pipeline.errors import ConfigError


def set_up_logging(level: str) -> None:
    """Log to standard error from ``level`` on. Raises ConfigError for a level that is none."""
    levels = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
    if level.lower() not in levels:
        raise ConfigError(f"--log-level {level}: allowed are {', '.join(levels)}.")
    logging.basicConfig(
        level=levels[level.lower()],
        stream=sys.stderr,
        format="%(asctime)s %(levelname).3s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
        force=True,
    )


def seconds_of(option: str, duration: str | None) -> float | None:
    """Return the seconds of an option's duration ("5s"). Raises ConfigError."""
    if duration is None:
        return None
    try:
        return parse_duration(duration)
    except ValueError as error:
        raise ConfigError(f"{option} {duration}: {error}.") from error


@contextmanager
def stop_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """SIGINT and SIGTERM ask to stop, which drains and ends with 0; a second one ends now."""
    stopping = False

    def signalled(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        if stopping:
            os._exit(128 + number)
        stopping = True
        stop()

    previous = {number: signal.signal(number, signalled) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM end a command that only watches as Ctrl-C does: with KeyboardInterrupt."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
