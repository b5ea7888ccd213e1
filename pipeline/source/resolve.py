"""Looks a host name up, within a deadline."""

from __future__ import annotations

import ipaddress
import socket
import threading

from pipeline.clock import monotonic
from pipeline.errors import Cause, SourceError
from pipeline.source.address import is_metadata_host

_LOOK_AGAIN_SECONDS = 0.1


def check_host(host: str, shown: str, deadline_seconds: float, stopping: threading.Event) -> None:
    """Return once ``host`` is known to resolve. Raises SourceError (unreachable) when it does not in time.

    ``getaddrinfo`` keeps to no timeout of FFmpeg's: a dead resolver would hold the caller for ten seconds and more. It
    runs in a thread that is left behind when the deadline passes, and ends with the resolver's own.
    """
    try:
        ipaddress.ip_address(host)
        return
    except ValueError:
        pass
    lookup = _Lookup(host)
    deadline = monotonic() + deadline_seconds
    while not lookup.done.wait(min(_LOOK_AGAIN_SECONDS, max(0.0, deadline - monotonic()))):
        if stopping.is_set() or monotonic() >= deadline:
            raise SourceError(
                f"{shown}: no answer to the look-up of '{host}' for {deadline_seconds:.1f} s. "
                "Check the name server, or write the camera's IP address.",
                cause=Cause.UNREACHABLE,
            )
    if not lookup.addresses:
        raise SourceError(
            f"{shown}: no such host '{host}' ({lookup.failure}). Check the name, or write the camera's IP address.",
            cause=Cause.UNREACHABLE,
        )
    if any(is_metadata_host(address) for address in lookup.addresses):
        raise SourceError(
            f"{shown}: '{host}' leads to a cloud machine's credential service, not to a camera.",
            cause=Cause.UNSUPPORTED,
        )


class _Lookup:
    def __init__(self, host: str) -> None:
        self.done = threading.Event()
        self.addresses: list[str] = []
        self.failure = ""
        self._host = host
        threading.Thread(target=self._run, name=f"resolve {host}", daemon=True).start()

    def _run(self) -> None:
        try:
            self.addresses = [str(found[4][0]) for found in socket.getaddrinfo(self._host, None)]
        except (OSError, UnicodeError) as error:
            self.failure = getattr(error, "strerror", None) or str(error)
        finally:
            self.done.set()
