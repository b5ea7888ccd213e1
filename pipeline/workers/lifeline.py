"""A worker ends with its parent, however that ends, and leaves signals that mean both of them to it."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def hang_on_to_parent(parent: int) -> None:
    """Let the kernel kill this process when the thread that started it ends. ``parent``: its process id."""
    try:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    except (AttributeError, OSError):
        return  # not on Linux: the end of the line still tells
    if os.getppid() != parent:  # it was too late for that
        os._exit(0)


def leave_signals_to_parent() -> None:
    """Ctrl-C reaches every process of a terminal, and a service manager's SIGTERM every one of a service.

    The parent hears them, too, and says in order what is to be done.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
