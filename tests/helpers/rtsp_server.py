"""An RTSP server whose cameras fail on command, for tests and for trying things by hand.

It sends H.264 that was encoded before, so it costs little while it serves. In a test::

    clip = NumberedClip.make(tmp_path)
    with RtspServer() as server:
        camera = server.add_camera("cam", clip, fps=25)
        ...                     # play camera.url
        camera.stall()          # every fault: see Camera
        camera.resume()
        numbers = [picture.number for picture in camera.sent]

Where the server's threads must not take turns with the threads under test, use `RtspServerProcess`
(tests/helpers/rtsp_process.py): the same calls, in a process of its own. By hand::

    python -m tests.helpers.rtsp_server --clip FILE --path cam --port 8554
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import threading
from pathlib import Path
from typing import Any

from tests.helpers.numbered_clip import Clip
from tests.helpers.rtsp_camera import Camera
from tests.helpers.rtsp_connection import RtspConnection
from tests.helpers.rtsp_pacer import CameraSettings

HOST = "127.0.0.1"


class Listener:
    """One port: accepts connections for its cameras, or refuses them while keeping the port."""

    def __init__(self, port: int = 0) -> None:
        self.cameras: dict[str, Camera] = {}
        self._lock = threading.RLock()
        self._connections: set[RtspConnection] = set()
        self._timer: threading.Timer | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self._socket = bound_socket(port)
        self.port: int = self._socket.getsockname()[1]
        self.accept()

    def accept(self) -> None:
        """Listen, unless it does already."""
        with self._lock:
            if self._thread is None and not self._closed:
                self._socket.listen(64)
                self._thread = threading.Thread(
                    target=self._run, args=(self._socket,), name=f"rtsp listener {self.port}", daemon=True
                )
                self._thread.start()

    def refuse(self) -> None:
        """Stop listening but stay bound, so that nobody else gets the port. Connections that are open stay."""
        with self._lock:
            if self._thread is None:
                return
            self._stop_listening()
            self._socket = bound_socket(self.port)

    def restart(self, after_seconds: float) -> None:
        """Cut all connections and refuse new ones; accept again after so many seconds. Returns at once."""
        with self._lock:
            self.refuse()
            if self._timer is not None:
                self._timer.cancel()
            self._timer = threading.Timer(after_seconds, self.accept)
            self._timer.daemon = True
            self._timer.start()
        self.cut()

    def cut(self) -> None:
        """Drop every connection with RST."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.abort()

    def close(self) -> None:
        """Free the port and end every thread. Closes twice safely."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            timer = self._timer
            if self._thread is not None:
                self._stop_listening()
            self._socket.close()
        if timer is not None:
            timer.cancel()
            timer.join(timeout=5)
        self.cut()

    def _stop_listening(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread out of accept
        if self._thread is not None:
            self._thread.join(timeout=5)
            self._thread = None
        self._socket.close()

    def _run(self, listening: socket.socket) -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            connection = RtspConnection(client, self.cameras, self._forget)
            self._connections.add(connection)
            connection.start()

    def _forget(self, connection: RtspConnection) -> None:
        self._connections.discard(connection)


class RtspServer:
    """Cameras behind one port of 127.0.0.1, or each behind its own. A context manager; closes twice safely."""

    def __init__(self, port: int = 0) -> None:
        self.cameras: dict[str, Camera] = {}
        self._listener = Listener(port)
        self._listeners = [self._listener]

    @property
    def port(self) -> int:
        """The port that cameras share unless they have their own."""
        return self._listener.port

    def add_camera(self, name: str, clip: Clip | Path | str, *, port: int | None = None, **settings: Any) -> Camera:
        """Add a camera at path ``name``. ``settings`` are those of `CameraSettings`: fps, frames, user, password, ...

        ``port`` None shares the server's port; 0 takes a free one of its own, so that `Camera.refuse` and
        `Camera.restart` hit no other camera.
        """
        if name in self.cameras:
            raise ValueError(f"there is a camera {name!r} already")
        if not isinstance(clip, Clip):
            clip = Clip.load(clip)
        listener = self._listener
        if port is not None:
            listener = Listener(port)
            self._listeners.append(listener)
        camera = Camera(name, clip, CameraSettings(**settings), listener)
        self.cameras[name] = camera
        listener.cameras[name] = camera
        return camera

    def refuse(self) -> None:
        """Refuse connections to the shared port."""
        self._listener.refuse()

    def accept(self) -> None:
        """Take connections to the shared port again."""
        self._listener.accept()

    def restart(self, after_seconds: float) -> None:
        """Cut the connections of the shared port, refuse new ones for a while, then accept. Returns at once."""
        self._listener.restart(after_seconds)

    def close(self) -> None:
        """End every connection and thread."""
        for listener in self._listeners:
            listener.close()
        for camera in self.cameras.values():
            camera.close()

    def __enter__(self) -> RtspServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def bound_socket(port: int) -> socket.socket:
    """Return a TCP socket bound to the port, not yet listening."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((HOST, port))
    except OSError:
        bound.close()
        raise
    return bound


def main(arguments: list[str] | None = None) -> None:
    """Serve a file until interrupted."""
    parser = argparse.ArgumentParser(prog="rtsp_server", description="Serve an H.264 file by RTSP, again and again.")
    parser.add_argument("--clip", required=True, type=Path, help="H.264 in mp4, mkv, ts, ...")
    parser.add_argument("--path", default="cam")
    parser.add_argument("--port", type=int, default=8554)
    parser.add_argument("--fps", type=float, help="default: the file's own")
    parser.add_argument("--frames", type=int, help="end after so many pictures; default: never")
    parser.add_argument("--user")
    parser.add_argument("--password", default="")
    parser.add_argument("--auth", choices=("digest", "basic"), default="digest")
    given = vars(parser.parse_args(arguments))
    with RtspServer(given.pop("port")) as server:
        camera = server.add_camera(given.pop("path"), given.pop("clip"), **given)
        print(f"{len(camera.clip)} pictures, {camera.clip.width}x{camera.clip.height}: {camera.url}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
