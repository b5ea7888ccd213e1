"""Why a worker ended, from its exit status."""

from __future__ import annotations

import signal

FAILED = 1
"""A stage failed; what it said stands in the log."""
CANNOT_START = 2
DEVICE_LOST = 70
"""A CUDA error that only a new process gets rid of. Away from the codes that shells and Python use."""

_WORDS = {FAILED: "failed", CANNOT_START: "cannot start", DEVICE_LOST: "device lost"}


def reason_of(status: int) -> str:
    """Return the reason as metrics have it: ``device_lost``, ``SIGSEGV``, ``failed``. ``status``: of ``Popen``."""
    if status < 0:
        try:
            return signal.Signals(-status).name
        except ValueError:
            return f"signal_{-status}"
    return _WORDS.get(status, f"exit_{status}").replace(" ", "_")


def words_of(reason: str) -> str:
    """Return the reason for people."""
    if reason == "SIGKILL":
        return "SIGKILL (killed from outside, or out of memory)"
    return reason if reason.startswith("SIG") else reason.replace("_", " ")
