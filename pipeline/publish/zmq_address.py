"""ZeroMQ addresses, checked before libzmq sees them.

libzmq binds ``tcp://…:99999`` to port 34463 without a word, takes over an ``ipc://`` path that another process is
serving, and deletes an ordinary file that has the same name. None of that may happen to a user.
"""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
import stat
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import UrlError

EXAMPLES = "tcp://127.0.0.1:5555 or ipc:///run/onpace/results.sock"
LONGEST_IPC_PATH = 107
"""Bytes of a Unix socket's path, by the kernel."""

_TCP = re.compile(r"^tcp://(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[^\s:/\[\]]+):(?P<port>[^\s/]*)$")


class ZmqAddress(NamedTuple):
    """A checked address."""

    url: str
    """What libzmq gets."""
    ipc_path: str | None
    """The socket's path; None for TCP. Begins with ``@`` in Linux' abstract namespace."""
    ipv6: bool = False
    loopback: bool = True
    """Whether only processes of this machine can reach it."""


def parse_zmq_address(text: str, *, bind: bool) -> ZmqAddress:
    """Check an address to bind (``bind``) or to connect to. Raises UrlError; opens nothing."""
    if text.startswith("ipc://"):
        return _parse_ipc(text)
    match = _TCP.match(text)
    if match is None:
        raise UrlError(f"address '{text}': expected tcp://HOST:PORT or ipc://PATH, as in {EXAMPLES}.")
    host, port = match["host"], match["port"]
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise UrlError(f"address '{text}': port '{port}' is not a number from 1 to 65535, as in {EXAMPLES}.")
    if host == "*" and not bind:
        raise UrlError(f"address '{text}': '*' can only be bound; name the host to connect to.")
    if host == "localhost" and bind:
        host = "127.0.0.1"  # libzmq binds numbers and interface names only
    return ZmqAddress(f"tcp://{host}:{int(port)}", None, ipv6=host.startswith("["), loopback=_is_loopback(host))


def check_ipc_path_is_free(path: str) -> None:
    """Raise UrlError where binding would take the path away from a running process or delete a file."""
    if path.startswith("@"):
        return  # the kernel refuses a second owner of an abstract name
    file = Path(path)
    if not file.parent.is_dir():
        raise UrlError(f"address 'ipc://{path}': directory {file.parent} does not exist. Create it, or choose another.")
    try:
        mode = file.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise UrlError(f"address 'ipc://{path}': {error.strerror}.") from error
    if not stat.S_ISSOCK(mode):
        raise UrlError(f"address 'ipc://{path}': a file of that name exists and is no socket. Choose another path.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.5)
        refused = probe.connect_ex(path)
    if refused not in (errno.ECONNREFUSED, errno.ENOENT):
        raise UrlError(
            f"address 'ipc://{path}': in use by another process. Stop it, or give this pipeline another path."
        )


def _parse_ipc(text: str) -> ZmqAddress:
    path = text[len("ipc://") :]
    if not path or path == "@" or path == "*":
        raise UrlError(f"address '{text}': a path must follow ipc://, as in {EXAMPLES}.")
    if len(path.encode()) > LONGEST_IPC_PATH:
        raise UrlError(
            f"address '{text}': the path has {len(path.encode())} bytes; Unix sockets take up to {LONGEST_IPC_PATH}. "
            "Use a shorter one, for instance under /run or /tmp."
        )
    return ZmqAddress(text, path)


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host == "lo":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
