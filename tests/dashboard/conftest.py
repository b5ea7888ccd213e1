"""What tests of the dashboard share: a browser, and ``onpace run`` over cameras with the page on a free port."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.chromium import chromium
from tests.helpers.onpace_process import OnpaceProcess


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    with chromium() as found:
        yield found


class ViewedRun:
    """``onpace run`` with its page at ``address`` and its messages at ``messages``."""

    def __init__(self, folder: Path, streams: list[dict[str, Any]], model: Path, **sections: Any) -> None:
        self.messages = f"ipc://{folder}/messages"
        self._out = folder / "messages.jsonl"
        config = {
            "streams": streams,
            "source": {"read_timeout": "2s", "reconnect_max_wait": "1s"},
            "infer": {"model": str(model), "runtime": "cpu", **sections.pop("infer", {})},
            "publish": {"sinks": [f"jsonl:{self._out}", f"zmq:{self.messages}"], "status_interval": "200ms"},
            "keepup": {"window": "2s", "hysteresis": "500ms"},
            "dashboard": {"listen": "127.0.0.1:0", **sections.pop("dashboard", {})},
            **sections,
        }
        file = folder / "viewed.yaml"
        file.write_text(yaml.safe_dump(config))
        self.process = OnpaceProcess("run", file, "--for", "5m")
        self.process.wait_for("dashboard on http://")
        self.address = re.search(r"dashboard on (http://\S+)", self.process.stdout + self.process.stderr)[1] + "/"

    def published(self, stream_id: str) -> dict[tuple[int, int], dict[str, Any]]:
        """Every detections message so far, by epoch and frame index."""
        lines = self._out.read_text().rpartition("\n")[0].splitlines()
        found = (json.loads(line) for line in lines if '"detections"' in line)
        return {(m["epoch"], m["frame_index"]): m for m in found if m["stream_id"] == stream_id}


@contextmanager
def viewed_run(folder: Path, *arguments: Any, **sections: Any) -> Iterator[ViewedRun]:
    """A run that ends with the block."""
    run = ViewedRun(folder, *arguments, **sections)
    with run.process:
        yield run


def wait_until(condition: Any, what: str, within_seconds: float = 90) -> Any:
    """Return the first true value of ``condition()``."""
    until = time.monotonic() + within_seconds
    while not (value := condition()):
        assert time.monotonic() < until, f"not within {within_seconds} s: {what}"
        time.sleep(0.1)
    return value
