"""Serves /metrics, /livez, /readyz and /healthz over HTTP: small, bounded in threads, bytes and seconds.

The standard library's handler parses and answers; what it leaves open is closed here. A request's head is read before
the handler sees it, at most so many bytes within so many seconds; as many threads as there are wait for connections, so
that the kernel's short queue is the only one; and each connection is closed after its answer.
"""

from __future__ import annotations

import contextlib
import io
import ipaddress
import json
import logging
import socket
import threading
from http.server import BaseHTTPRequestHandler
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from pipeline.clock import monotonic
from pipeline.errors import UrlError
from pipeline.metrics.health import Answer, Health

MOST_HEAD_BYTES = 8192
REQUEST_SECONDS = 2.0
"""To send a whole request, and again to take a whole answer."""
THREADS = 4
_BACKLOG = 16
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_EVERYWHERE = frozenset({"0.0.0.0", "::"})

_log = logging.getLogger("onpace.metrics")


class MetricsServer:
    """Listens from the start until ``close``."""

    def __init__(self, listen: str, registry: CollectorRegistry, health: Health) -> None:
        """Bind ``listen``, HOST:PORT. Raises UrlError where it cannot be had."""
        self.registry = registry
        self.health = health
        host, _, port = listen.rpartition(":")
        self._host = host.strip("[]").lower()
        self._listener = _bound(self._host, int(port), listen)
        self.port: int = self._listener.getsockname()[1]
        """The port that is really listened on, where 0 was asked for."""
        self._closed = False
        self._threads = [
            threading.Thread(target=self._serve, name=f"metrics-{number}", daemon=True) for number in range(THREADS)
        ]
        for thread in self._threads:
            thread.start()
        _log.info("metrics and health on http://%s:%d", host, self.port)

    def close(self) -> None:
        """Stop listening; requests under way end within their time. Closing twice is safe."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the threads out of accept
        self._listener.close()
        for thread in self._threads:
            thread.join(2 * REQUEST_SECONDS + 1.0)

    def knows_host(self, header: str) -> bool:
        """Whether a request's ``Host`` is us. A web page that points its own name at us (DNS rebinding) is not."""
        name, colon, port = header.rpartition(":")
        host = (name if colon and port.isdigit() else header).strip("[]").lower()
        if host in _LOOPBACK_NAMES or host == self._host:
            return True
        # Bound to every address: any number is one of ours, and no name that a page could have registered.
        return self._host in _EVERYWHERE and (_is_number(host) or host == socket.gethostname().lower())

    def _serve(self) -> None:
        while not self._closed:
            try:
                client, address = self._listener.accept()
            except OSError:
                if self._closed:
                    return
                threading.Event().wait(0.1)  # out of file descriptors, perhaps: others need the time
                continue
            with client:
                try:
                    client.settimeout(REQUEST_SECONDS)
                    _Handler(client, address, self)  # type: ignore[arg-type]  # it only keeps it
                except OSError:
                    pass  # gone, or too slow: its own loss
                except Exception:
                    _log.exception("a request failed")


class _Handler(BaseHTTPRequestHandler):
    """One request and its answer. GET only."""

    server_version = "onpace"
    sys_version = ""
    server: Any  # a MetricsServer; the base class would have one of its own library's

    def setup(self) -> None:
        """Read the whole head before anything is parsed."""
        self.connection = self.request
        self.rfile = io.BytesIO(_read_head(self.connection))
        self.wfile = self._answered = io.BytesIO()

    def finish(self) -> None:
        """Send the whole answer, within the connection's time."""
        self.connection.sendall(self._answered.getvalue())

    def do_GET(self) -> None:
        """Answer."""
        path = self.path.partition("?")[0]
        if not self.server.knows_host(self.headers.get("Host", "")):
            self._answer(421, "this server goes by another name: ask for the address that metrics.listen says\n")
        elif path == "/metrics":
            encode, kind = choose_encoder(self.headers.get("Accept", ""))
            self._answer(200, encode(self.server.registry), kind)
        elif path == "/livez":
            self._say(self.server.health.alive())
        elif path == "/readyz":
            self._say(self.server.health.ready())
        elif path == "/healthz":
            report = self.server.health.report()
            self._answer(200 if report["alive"] else 503, json.dumps(report) + "\n", "application/json")
        else:
            self._answer(404, "here are /metrics, /livez, /readyz and /healthz\n")

    def log_message(self, format: str, *arguments: Any) -> None:
        """Keep requests out of the log: there is one every few seconds, for ever."""

    def _say(self, answer: Answer) -> None:
        self._answer(200 if answer.ok else 503, answer.words + "\n")

    def _answer(self, code: int, body: str | bytes, kind: str = "text/plain; charset=utf-8") -> None:
        content = body.encode() if isinstance(body, str) else body
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)


def _read_head(connection: socket.socket) -> bytes:
    """Return a request up to its empty line; nothing of one that is too long or too slow."""
    head = bytearray()
    until = monotonic() + REQUEST_SECONDS
    while b"\r\n\r\n" not in head and b"\n\n" not in head:
        remaining = until - monotonic()
        if remaining <= 0 or len(head) > MOST_HEAD_BYTES:
            raise TimeoutError("a request too long or too slow")
        connection.settimeout(remaining)
        part = connection.recv(4096)
        if not part:
            raise ConnectionResetError("hung up")
        head += part
    connection.settimeout(REQUEST_SECONDS)
    return bytes(head)


def _bound(host: str, port: int, listen: str) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
    except (OSError, UnicodeError) as error:
        words = getattr(error, "strerror", None) or str(error)
        raise UrlError(
            f"metrics.listen '{listen}': {words}. Give an address of this machine and a free port, or null."
        ) from None
    return listener


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
