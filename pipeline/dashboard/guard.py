"""Who may ask what: checked before any application code sees a request.

- *Host*: a web page that points its own name at this machine (DNS rebinding) is refused.
- *Origin*: a page of another site may not make its visitor's browser ask for anything here (CSRF).
- *token*: where there is one, everything below ``/api/`` wants it, compared in constant time.
- *size*: a body has at most so many bytes.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.dashboard.answers import problem
from pipeline.dashboard.reach import host_of

MOST_BODY_BYTES = 64 * 1024
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_EVERYWHERE = frozenset({"0.0.0.0", "::"})
_HEADERS = [(b"x-content-type-options", b"nosniff")]


class HostNames:
    """Knows by which names a server that listens on HOST:PORT may be called."""

    def __init__(self, listen: str, key: str) -> None:
        self._host = host_of(listen)
        self.refusal = f"this server goes by another name: ask for the address that {key} says"

    def knows(self, header: str) -> bool:
        """Whether a request's ``Host`` is us."""
        name, colon, port = header.rpartition(":")
        host = (name if colon and port.isdigit() else header).strip("[]").lower()
        if host in _LOOPBACK_NAMES or host == self._host:
            return True
        # Bound to every address: any number is one of ours, and no name that a page could have registered.
        return self._host in _EVERYWHERE and (_is_number(host) or host == socket.gethostname().lower())


class HostGuard:
    """Lets in who calls the server by its name."""

    def __init__(self, application: ASGIApp, names: HostNames) -> None:
        self._application = application
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        refusal = None
        if not self._names.knows(Headers(scope=scope).get("host", "")):
            refusal = PlainTextResponse(self._names.refusal + "\n", 421)
        await (refusal or self._application)(scope, receive, _adding(_HEADERS, send))


class Guard:
    """Lets in who may steer: by name, from a page of ours or from no page, with the token, with a small body."""

    def __init__(self, application: ASGIApp, names: HostNames, token: str | None) -> None:
        self._application = application
        self._names = names
        self._token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        refusal = self._refusal(scope["method"], scope["path"], Headers(scope=scope))
        await (refusal or self._application)(scope, _bounded(receive), _adding(_HEADERS, send))

    def _refusal(self, method: str, path: str, headers: Headers) -> Response | None:
        host = headers.get("host", "")
        if not self._names.knows(host):
            return problem(421, "wrong_host", f"{self._names.refusal}.")
        if _is_foreign(headers, host):
            return problem(
                403, "wrong_origin", "a page of another site may not ask this server. Open the page that it serves."
            )
        if path.startswith("/api/") and not self._knows(headers.get("authorization", "")):
            return problem(
                401,
                "token_needed",
                "a token is needed here. Send 'Authorization: Bearer TOKEN' with the token of dashboard.token.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MOST_BODY_BYTES:
            return too_large()
        has_body = length != "0" or "transfer-encoding" in headers
        if has_body and headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return problem(415, "not_json", "the body must be JSON. Send it with 'Content-Type: application/json'.")
        return None

    def _knows(self, authorization: str) -> bool:
        if self._token is None:
            return True
        kind, _, token = authorization.partition(" ")
        return hmac.compare_digest(token.strip().encode(), self._token) and kind.lower() == "bearer"


class BodyTooLarge(Exception):
    """A body without a length turned out to have too many bytes."""


def too_large() -> Response:
    """Return the refusal of a body that is too large."""
    return problem(413, "too_large", f"the body is too large: at most {MOST_BODY_BYTES} bytes are taken.")


def _bounded(receive: Receive) -> Receive:
    received = 0

    async def counted() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > MOST_BODY_BYTES:
            raise BodyTooLarge
        return message

    return counted


def _adding(headers: list[tuple[bytes, bytes]], send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            present = {name for name, _ in message["headers"]}
            message["headers"] = [*message["headers"], *(pair for pair in headers if pair[0] not in present)]
        await send(message)

    return sent


def _is_foreign(headers: Mapping[str, str], host: str) -> bool:
    """Whether a browser asks on behalf of another site's page. Who is no browser sends none of these headers."""
    origin = headers.get("origin")
    if origin is not None:
        return urlsplit(origin).netloc.lower() != host.lower()
    site, mode = headers.get("sec-fetch-site"), headers.get("sec-fetch-mode")
    return site in ("cross-site", "same-site") and mode != "navigate"  # a link to our page is no harm


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
