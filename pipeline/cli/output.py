"""Standard output that can no longer be written: a closed pipe, a full disk. It must not end a run."""

from __future__ import annotations

import os
from typing import IO


def why(error: OSError) -> str:
    """Say what is wrong with an output, as "No space left on device"."""
    return error.strerror or str(error)


def give_up(stream: IO[str]) -> None:
    """Lead ``stream`` to nowhere from now on: what it still holds would fail again at every flush, and at the exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, stream.fileno())
    finally:
        os.close(nowhere)


def printable(text: str) -> str:
    """Return text from the network without what could move a terminal's cursor."""
    return "".join(character if character.isprintable() else "?" for character in text)
