"""One RTSP connection of the test server: reads requests, answers them, and carries interleaved media."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.helpers import rtp
from tests.helpers.rtsp_auth import Authenticator
from tests.helpers.rtsp_camera import Camera
from tests.helpers.rtsp_session import InterleavedTransport, MediaSession, Transport, UdpTransport

METHODS = "OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, SET_PARAMETER, TEARDOWN"
REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    453: "Not Enough Bandwidth",
    454: "Session Not Found",
    461: "Unsupported Transport",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}
INTERLEAVED = re.compile(r"interleaved=(\d+)-(\d+)")
CLIENT_PORTS = re.compile(r"client_port=(\d+)-(\d+)")


@dataclass(frozen=True)
class Request:
    """An RTSP request. Header names are in lower case."""

    method: str
    url: str
    headers: Mapping[str, str]

    @property
    def camera_name(self) -> str:
        """The path without the track, e.g. "cam" of rtsp://host:554/cam/trackID=0."""
        path = self.url.split("://", 1)[-1].partition("/")[2].split("?")[0]
        return path.removesuffix("trackID=0").strip("/")


@dataclass(frozen=True)
class Reply:
    """An RTSP reply, but for the CSeq and Session that every reply has."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""


class RtspConnection:
    """Serves one client on its own thread, until the client or the server closes."""

    def __init__(self, client: socket.socket, cameras: Mapping[str, Camera], when_closed: Callable[..., None]) -> None:
        self._socket = client
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._cameras = cameras
        self._when_closed = when_closed
        self._write_lock = threading.Lock()
        self._dead = False
        self._camera: Camera | None = None
        self._session: MediaSession | None = None
        self._thread = threading.Thread(target=self._run, name="rtsp connection", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def abort(self) -> None:
        """Drop the connection with RST. Returns when that is done."""
        self._dead = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RD)  # wakes the thread, which then closes
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=5)

    def finish(self) -> None:
        """Send FIN and nothing more; requests are read until the client closes, too."""
        with self._write_lock:
            self._socket.shutdown(socket.SHUT_WR)

    def write(self, data: bytes) -> None:
        """Hand all of ``data`` to the socket, however slowly the client reads, unless the connection is aborted."""
        with self._write_lock:
            waiting = select.poll()
            waiting.register(self._socket, select.POLLOUT)
            rest = memoryview(data)
            while rest:
                if self._dead:
                    raise ConnectionAbortedError("the connection was cut")
                try:
                    rest = rest[self._socket.send(rest, socket.MSG_DONTWAIT) :]
                except BlockingIOError:
                    waiting.poll(50)

    def _run(self) -> None:
        try:
            self._serve()
        except OSError:
            pass  # the client is gone: nothing is left to tell it
        finally:
            self._end_session()
            if self._camera is not None:
                self._camera.detach(self)
            with self._write_lock:
                if self._dead:
                    self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._dead = True
                self._socket.close()
            self._when_closed(self)

    def _serve(self) -> None:
        buffer = b""
        while not self._dead and (received := self._socket.recv(65536)):
            buffer += received
            while not self._dead:
                request, size = next_request(buffer)
                if size == 0:
                    break
                buffer = buffer[size:]
                if request is not None:
                    self._answer(request)

    def _answer(self, request: Request) -> None:
        camera = self._cameras.get(request.camera_name)
        if camera is None:
            self._reply(request, Reply(200, (("Public", METHODS),)) if request.method == "OPTIONS" else Reply(404))
            return
        if camera is not self._camera:
            if self._camera is not None:
                self._camera.detach(self)
            self._camera = camera
            camera.attach(self)
        authorization = request.headers.get("authorization")
        status = camera.reply_to(request.method, authorization is not None)
        if status is None:
            return
        authenticator = camera.authenticator
        allowed = request.method == "OPTIONS" or authenticator is None
        if status == 200 and not (allowed or authenticator.accepts(request.method, authorization)):
            status = 401
        if status == 401:
            challenge = (authenticator or Authenticator("", "")).challenge()
            self._reply(request, Reply(401, (("WWW-Authenticate", challenge),)))
        elif status != 200:
            self._reply(request, Reply(status))
        elif request.method == "PLAY":
            self._play(request, camera)
        else:
            self._reply(request, self._handle(request, camera))

    def _handle(self, request: Request, camera: Camera) -> Reply:
        if request.method == "OPTIONS":
            return Reply(200, (("Public", METHODS),))
        if request.method == "DESCRIBE":
            base = request.url.rstrip("/") + "/"
            headers = (("Content-Base", base), ("Content-Type", "application/sdp"))
            return Reply(200, headers, rtp.session_description(camera.clip, camera.name))
        if request.method == "SETUP":
            return self._set_up(request, camera)
        if request.method in ("GET_PARAMETER", "SET_PARAMETER"):
            return Reply(200)
        if request.method == "TEARDOWN":
            self._end_session()
            return Reply(200)
        return Reply(501)

    def _set_up(self, request: Request, camera: Camera) -> Reply:
        self._end_session()
        wanted = request.headers.get("transport", "")
        transport = self._transport(wanted)
        if transport is None:
            return Reply(461)
        self._session = MediaSession(transport, first_timestamp=camera.settings.first_timestamp)
        return Reply(200, (("Transport", transport.answer),))

    def _transport(self, wanted: str) -> Transport | None:
        if "RTP/AVP/TCP" in wanted:
            channels = INTERLEAVED.search(wanted)
            return InterleavedTransport(self.write, *(int(n) for n in channels.groups()) if channels else (0, 1))
        ports = CLIENT_PORTS.search(wanted)
        if ports is None or "multicast" in wanted:
            return None
        media_port, control_port = (int(port) for port in ports.groups())
        return UdpTransport(self._socket.getsockname()[0], self._socket.getpeername()[0], media_port, control_port)

    def _play(self, request: Request, camera: Camera) -> None:
        """Answer first: no packet may come before the reply that names the first one."""
        session = self._session
        if session is None:
            self._reply(request, Reply(454))
            return
        url = f"{request.url.rstrip('/')}/trackID=0"
        info = f"url={url};seq={session.sequence};rtptime={session.first_timestamp}"
        self._reply(request, Reply(200, (("Range", "npt=0.000-"), ("RTP-Info", info))))
        camera.join(session, self)

    def _end_session(self) -> None:
        session, self._session = self._session, None
        if session is not None and self._camera is not None:
            self._camera.leave(session)
            session.transport.close()

    def _reply(self, request: Request, reply: Reply) -> None:
        lines = [f"RTSP/1.0 {reply.status} {REASONS.get(reply.status, 'Error')}"]
        lines.append(f"CSeq: {request.headers.get('cseq', '0')}")
        if self._session is not None and self._camera is not None:
            lines.append(f"Session: {self._session.id};timeout={self._camera.settings.session_timeout_seconds}")
        lines += [f"{name}: {value}" for name, value in reply.headers]
        body = reply.body.encode()
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


def next_request(buffer: bytes) -> tuple[Request | None, int]:
    """Return the request at the start of ``buffer`` and the bytes it takes; 0 if it is not complete.

    Interleaved packets (the client's RTCP) and lines that are no request give None and their size: they are skipped.
    """
    if buffer[:1] == b"$":
        size = 4 + int.from_bytes(buffer[2:4], "big")
        return None, size if len(buffer) >= max(size, 4) else 0
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None, 0
    first, *rest = buffer[:end].decode("utf-8", "replace").strip().split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
    size = end + 4 + int(headers.get("content-length", "0") or 0)
    words = first.split()
    if len(buffer) < size:
        return None, 0
    return (Request(words[0], words[1], headers) if len(words) >= 2 else None), size
