"""A running pipeline with its control API on a free port, and a client that asks over real HTTP."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.config.load import config_from_mapping
from pipeline.pipeline import Pipeline
from pipeline.publish.messages import DetectionsMessage, StatusMessage


class Steered:
    """A pipeline that is steered over HTTP, and everything it published."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        assert pipeline.dashboard.server is not None
        self.port = pipeline.dashboard.server.port
        self.address = f"http://127.0.0.1:{self.port}"
        self.detections: list[DetectionsMessage] = []
        self.statuses: list[StatusMessage] = []
        send = pipeline.dashboard.feed.send

        def kept(message: Any) -> None:
            (self.detections if isinstance(message, DetectionsMessage) else self.statuses).append(message)
            send(message)

        pipeline._publisher._also = kept

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Make one request; return its status and JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            kind = {} if content is None else {"Content-Type": "application/json"}
            connection.request(method, path, content, {**kind, **headers})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def add(self, stream_id: str, url: str = "pattern:?size=64x64&fps=25", **settings: Any) -> dict[str, Any]:
        """Add a stream, paced as a camera."""
        body = {"id": stream_id, "url": url, "realtime": url.startswith("pattern:"), **settings}
        status, answer = self.ask("POST", "/api/streams", body)
        assert status == 201, answer
        return dict(answer)

    def stream(self, stream_id: str) -> dict[str, Any]:
        """Return a stream's facts."""
        status, answer = self.ask("GET", f"/api/streams/{stream_id}")
        assert status == 200, answer
        return dict(answer)

    def of(self, stream_id: str) -> list[DetectionsMessage]:
        """Return what was published of a stream."""
        return [message for message in list(self.detections) if message.stream_id == stream_id]

    def wait_for_frames(self, stream_id: str, more: int = 5) -> None:
        """Wait until so many more frames of a stream were published."""
        before = len(self.of(stream_id))
        wait_until(lambda: len(self.of(stream_id)) >= before + more, f"{more} more frames of {stream_id}")


@contextmanager
def steered(model: Path, *streams: dict[str, Any], **sections: Any) -> Iterator[Steered]:
    """Run a pipeline until the block ends."""
    data = {
        "streams": list(streams) or [{"id": "s0", "url": "pattern:?size=64x64&fps=25", "realtime": True}],
        "infer": {"model": str(model), "runtime": "cpu"},
        **sections,
        "dashboard": {"listen": "127.0.0.1:0", "stay": True, **sections.get("dashboard", {})},
    }
    with Pipeline(config_from_mapping(data, origin="test")) as pipeline:
        found = Steered(pipeline)
        pipeline.start()
        yield found


def wait_until(condition: Any, what: str, within_seconds: float = 30.0) -> None:
    """Wait until ``condition()`` holds."""
    until = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < until, f"not within {within_seconds} s: {what}"
        time.sleep(0.03)
