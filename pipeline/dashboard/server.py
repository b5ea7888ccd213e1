"""An HTTP server in a thread of its own: uvicorn with a ready socket, bounded in connections, bytes and seconds."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipeline.errors import UrlError

MOST_HEAD_BYTES = 8192
HEAD_SECONDS = 2.0
"""To send the rest of a request's head after its first byte."""
SILENT_SECONDS = 8.0
"""For a connection on which nothing was asked yet: browsers open some ahead, and need a while on a busy machine."""
MOST_CONNECTIONS = 256
"""Open at a time; a request on any further one is answered with 503."""
_BACKLOG = 64
_ENDING_SECONDS = 1

_log = logging.getLogger("onpace.http")


class HttpServer:
    """Serves one application from the start until ``close``."""

    def __init__(self, application: ASGIApp, listener: socket.socket, *, name: str) -> None:
        """``listener`` is bound already, and closed with the server. ``name`` is the thread's."""
        self.port: int = listener.getsockname()[1]
        """The port that is really listened on, where 0 was asked for."""
        self._listener = listener
        self._server = uvicorn.Server(
            uvicorn.Config(
                _Outermost(application),
                http=_PatientProtocol,
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                log_level="critical",  # what a request does wrong is its sender's to know; our own faults we log
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=MOST_CONNECTIONS,
                h11_max_incomplete_event_size=MOST_HEAD_BYTES,
                timeout_graceful_shutdown=_ENDING_SECONDS,
            )
        )
        self.thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self.thread.start()

    def close(self) -> None:
        """Stop listening; requests under way end within a second or two. Closing twice is safe."""
        self._server.should_exit = True
        self.thread.join(_ENDING_SECONDS + 5.0)
        self._listener.close()

    def _serve(self) -> None:
        try:
            self._server.run(sockets=[self._listener])
        except Exception:
            _log.exception("%s ended", self.thread.name)


class _PatientProtocol(H11Protocol):
    """Hangs up on whoever does not send a request's head in time: uvicorn itself would wait for ever."""

    _patience: asyncio.TimerHandle | None = None
    _begun = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_request()

    def data_received(self, data: bytes) -> None:
        if not self._begun:
            self._begun = True
            self._stop_waiting()
            self._patience = self.loop.call_later(HEAD_SECONDS, self.transport.abort)
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._stop_waiting()
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _await_request(self) -> None:
        self._begun = False
        # Closed in good order: a browser that is about to ask opens another one, where a reset would fail its request.
        self._patience = self.loop.call_later(SILENT_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


class _Outermost:
    """Logs what an application did not expect; an answer that is cut off at the end is no news."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._application(scope, receive, send)
        except asyncio.CancelledError:
            pass
        except Exception:
            _log.exception("a request failed: %s %s", scope.get("method"), scope.get("path"))


def bound(listen: str, key: str) -> socket.socket:
    """Return a socket that listens on HOST:PORT. Raises UrlError, naming the configuration's ``key``."""
    host, _, port = listen.rpartition(":")
    try:
        address_info: list[Any] = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = address_info[0]
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
            f"{key} '{listen}': {words}. Give an address of this machine and a free port, or null."
        ) from None
    return listener
