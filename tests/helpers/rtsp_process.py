"""The test server in a process of its own, with the same calls as `RtspServer`.

For measurements: the server's threads then take no turns of the Python lock from the pipeline under test. Calls travel
as JSON lines over the child's stdin and stdout; the child ends when its stdin does, so it never outlives its parent.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.helpers.numbered_clip import Clip
from tests.helpers.rtsp_pacer import SentPicture
from tests.helpers.rtsp_server import RtspServer

REPOSITORY = Path(__file__).resolve().parents[2]
COMMANDS = frozenset(
    (
        *("stall", "trickle", "resume", "burst", "set_fps", "set_clock", "change_resolution", "corrupt", "lose"),
        *("end", "rewind", "cut", "refuse", "accept", "restart"),
        *("status", "not_found", "unauthorised", "silence", "answer", "heal"),
    )
)
ERRORS: dict[str, type[Exception]] = {"ValueError": ValueError, "KeyError": KeyError, "TypeError": TypeError}
POLL_SECONDS = 0.02


class RemoteCamera:
    """A `Camera` of the child process. Has every fault method of `Camera`: see there."""

    def __init__(self, process: RtspServerProcess, name: str, url: str, clip: Clip) -> None:
        self.name = name
        self.url = url
        self.clip = clip
        """The clip it was added with."""
        self._process = process
        self._sent: list[SentPicture] = []
        self._fetching = threading.Lock()

    @property
    def sent(self) -> list[SentPicture]:
        """Every picture handed to a client, as `Camera.sent`. Fetches only what is new."""
        with self._fetching:
            rows = self._call("sent_since", len(self._sent))
            self._sent += [SentPicture(*row) for row in rows]
            return list(self._sent)

    def sent_since(self, start: int) -> list[SentPicture]:
        """Return the log from its entry ``start`` on."""
        return self.sent[start:]

    def counts(self) -> dict[str, int]:
        """Return what `Camera.counts` returns."""
        return dict(self._call("counts"))

    def wait_for_sent(self, entries: int, within_seconds: float = 10.0) -> bool:
        """Wait until the log has this many entries. Return whether it has."""
        return poll(lambda: len(self.sent) >= entries, within_seconds)

    def wait_for_playing(self, clients: int, within_seconds: float = 10.0) -> bool:
        """Wait until exactly this many clients play. Return whether they do."""
        return poll(lambda: self.counts()["playing"] == clients, within_seconds)

    def wait_for_count(self, name: str, at_least: int, within_seconds: float = 10.0) -> bool:
        """Wait until one of the `counts` is this high. Return whether it is."""
        return poll(lambda: self.counts()[name] >= at_least, within_seconds)

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name not in COMMANDS:
            raise AttributeError(f"a camera has no {name!r}")
        return lambda *arguments, **keywords: self._call(name, *arguments, **keywords)

    def _call(self, name: str, *arguments: Any, **keywords: Any) -> Any:
        return self._process.call(self.name, name, *arguments, **keywords)


class RtspServerProcess:
    """`RtspServer` in a child process. A context manager; closes twice safely."""

    def __init__(self, port: int = 0) -> None:
        self.cameras: dict[str, RemoteCamera] = {}
        self._lock = threading.Lock()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.rtsp_process", str(port)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.port: int = self.call(None, "port")

    @property
    def pid(self) -> int:
        """Process id of the child, for measuring what it uses."""
        return self._child.pid

    def add_camera(
        self, name: str, clip: Clip | Path | str, *, port: int | None = None, **settings: Any
    ) -> RemoteCamera:
        """Add a camera, as `RtspServer.add_camera`. The child reads the clip's file itself."""
        if not isinstance(clip, Clip):
            clip = Clip.load(clip)
        url = self.call(None, "add_camera", name, clip, port=port, **settings)
        self.cameras[name] = RemoteCamera(self, name, url, clip)
        return self.cameras[name]

    def refuse(self) -> None:
        """Refuse connections to the shared port."""
        self.call(None, "refuse")

    def accept(self) -> None:
        """Take connections to the shared port again."""
        self.call(None, "accept")

    def restart(self, after_seconds: float) -> None:
        """Cut the connections of the shared port, refuse new ones for a while, then accept. Returns at once."""
        self.call(None, "restart", after_seconds)

    def call(self, camera: str | None, name: str, *arguments: Any, **keywords: Any) -> Any:
        """Make one call in the child and return its result; an error of the call is raised here."""
        request = {"camera": camera, "call": name, "arguments": arguments, "keywords": keywords}
        with self._lock:
            if self._child.stdin is None or self._child.stdout is None or self._child.stdin.closed:
                raise RuntimeError("the RTSP server process is closed")
            self._child.stdin.write(json.dumps(request, default=as_json) + "\n")
            line = self._child.stdout.readline()
        if not line:
            raise RuntimeError(f"the RTSP server process has ended, exit code {self._child.wait(timeout=5)}")
        reply = json.loads(line)
        if "error" in reply:
            raise ERRORS.get(reply["error"], RuntimeError)(reply["message"])
        return reply["result"]

    def close(self) -> None:
        """End the child."""
        with self._lock:
            for pipe in (self._child.stdin, self._child.stdout):
                if pipe is not None:
                    pipe.close()
        try:
            self._child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait(timeout=10)

    def __enter__(self) -> RtspServerProcess:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def as_json(value: object) -> object:
    """Stand a clip's file in for the clip."""
    if isinstance(value, Clip):
        return {"clip": str(value.path)}
    raise TypeError(f"cannot send {type(value).__name__} to the RTSP server process")


def from_json(value: Any) -> Any:
    """Turn what `as_json` wrote into a clip again."""
    return Clip.load(value["clip"]) if isinstance(value, dict) and "clip" in value else value


def poll(condition: Callable[[], bool], within_seconds: float) -> bool:
    """Ask again and again until the condition holds. Return whether it does."""
    until = time.monotonic() + within_seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(POLL_SECONDS)
    return True


def perform(server: RtspServer, request: dict[str, Any]) -> Any:
    """Make one call on the server or one of its cameras."""
    arguments = [from_json(value) for value in request["arguments"]]
    keywords = {key: from_json(value) for key, value in request["keywords"].items()}
    name = request["call"]
    if request["camera"] is not None:
        return getattr(server.cameras[request["camera"]], name)(*arguments, **keywords)
    if name == "port":
        return server.port
    if name == "add_camera":
        return server.add_camera(*arguments, **keywords).url
    return getattr(server, name)(*arguments, **keywords)


def main() -> None:
    """Obey the parent until it closes stdin."""
    with contextlib.suppress(KeyboardInterrupt), RtspServer(int(sys.argv[1])) as server:
        for line in sys.stdin:
            try:
                reply: dict[str, Any] = {"result": perform(server, json.loads(line))}
            except Exception as error:
                reply = {"error": type(error).__name__, "message": str(error)}
            print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
