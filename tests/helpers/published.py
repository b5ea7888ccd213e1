"""What a pipeline wrote to a JSON Lines sink."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def published(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the messages of frames by stream, in the order in which they were written."""
    found: dict[str, list[dict[str, Any]]] = {}
    for line in path.read_text().splitlines():
        message = json.loads(line)
        if message["kind"] == "detections":
            found.setdefault(message["stream_id"], []).append(message)
    return found
