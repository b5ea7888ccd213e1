"""Viewers of the live view without a browser: they ask for what its page asks for, and throw it away.

A process of its own, obeying lines on stdin: ``on`` opens the connections, ``off`` closes them; answers ``ok``.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
from urllib.parse import urlencode


class Viewer:
    """One page: the pictures of all streams, the statuses, and every two seconds the latest minutes."""

    def __init__(self, port: int, streams: list[str], width: int) -> None:
        self._port = port
        self._over = threading.Event()
        pictures = urlencode([("width", width), *(("stream", stream) for stream in streams)])
        self.received = 0
        self._connections: list[http.client.HTTPConnection] = []
        self._threads = [
            threading.Thread(target=self._read, args=(f"/api/preview?{pictures}",), daemon=True),
            threading.Thread(target=self._read, args=("/api/events?kind=status",), daemon=True),
            threading.Thread(target=self._poll, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Leave."""
        self._over.set()
        for connection in self._connections:
            if connection.sock is not None:
                connection.sock.shutdown(2)
        for thread in self._threads:
            thread.join(5)

    def _read(self, path: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port)
        connection.request("GET", path)
        answer = connection.getresponse()
        self._connections.append(connection)
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status} {answer.read()!r}")
        try:
            while not self._over.is_set() and (part := answer.read1(1 << 16)):
                self.received += len(part)
        except (OSError, http.client.HTTPException, ValueError):
            return

    def _poll(self) -> None:
        since = 0
        while not self._over.wait(2.0):
            connection = http.client.HTTPConnection("127.0.0.1", self._port)
            connection.request("GET", f"/api/history?since={since}")
            since = json.load(connection.getresponse())["next"]
            connection.close()


def main() -> None:
    """Obey."""
    port, number, width = map(int, sys.argv[1:4])
    streams = sys.argv[4:]
    viewers: list[Viewer] = []
    for line in sys.stdin:
        if line.strip() == "on":
            viewers = [Viewer(port, streams, width) for _ in range(number)]
            print("ok", flush=True)
        else:
            received = sum(viewer.received for viewer in viewers)
            for viewer in viewers:
                viewer.close()
            print(received, flush=True)


if __name__ == "__main__":
    main()
