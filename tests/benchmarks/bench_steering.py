"""What steering costs the streams that are not steered: frames lost, and their ages against a quiet time.

Eight paced streams play, and a guest beside them. In quiet spells the guest only plays; in busy ones, which take turns
with them, guests are added, changed, paused, resumed, restarted and removed, three steps a second. What counts is the
median of the spells: whatever else the machine does hits some of them.

    python -m tests.benchmarks.bench_steering [--seconds 60] [--streams 8] [--fps 10]
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from pipeline.process import prepare_process
from tests.dashboard.steering import Steered, steered
from tests.helpers.tiny_onnx import working_detector

SPELL_SECONDS = 2.5
GUEST = "pattern:?size=320x180&fps=5"
_numbers = itertools.count()


def measure(model: Path, *, seconds: float, streams: int, fps: float) -> dict[str, object]:
    """Return frames lost, and the ages in seconds, quiet and busy."""
    prepare_process()
    watched = [
        {"id": f"s{number}", "url": f"pattern:?size=320x180&fps={fps}", "realtime": True} for number in range(streams)
    ]
    spells: dict[str, list[dict[str, float]]] = {"quiet": [], "busy": []}
    actions = 0
    with steered(model, *watched) as found:
        time.sleep(SPELL_SECONDS)
        for spell in range(max(2, round(seconds / SPELL_SECONDS))):
            kind = ("quiet", "busy")[spell % 2]
            if kind == "quiet":
                found.add("guest", GUEST)
                time.sleep(0.5)
            before, until = len(found.detections), time.monotonic() + SPELL_SECONDS
            while kind == "busy" and time.monotonic() < until:
                actions += steer(found)
            if kind == "quiet":
                time.sleep(SPELL_SECONDS)
            mine = [one.age_seconds for one in found.detections[before:] if one.stream_id.startswith("s")]
            spells[kind].append({f"p{q}": float(np.percentile(mine, q)) for q in (50, 95, 99)})
            if kind == "quiet":
                found.ask("DELETE", "/api/streams/guest")
        statuses = [status for status in found.pipeline.status() if status.stream_id.startswith("s")]
    ages = {kind: medians(found) for kind, found in spells.items()}
    return {
        "streams": streams,
        "fps": fps,
        "actions": actions,
        "lost": sum(status.ledger.dropped_total for status in statuses),
        "reconnects": sum(status.reconnects for status in statuses),
        **ages,
        "p99_busy_over_quiet": round(ages["busy"]["p99"] / ages["quiet"]["p99"], 3),
    }


def steer(found: Steered) -> int:
    """Let one stream come, change and go; return how much was done."""
    name = f"guest{next(_numbers)}"
    one = f"/api/streams/{name}"
    found.add(name, GUEST)
    for method, path, body in (
        ("PATCH", one, {"weight": 0.5, "max_fps": 2}),
        ("POST", f"{one}/pause", None),
        ("POST", f"{one}/resume", None),
        ("POST", f"{one}/restart", None),
        ("GET", "/api/streams", None),
        ("DELETE", one, None),
    ):
        status, answer = found.ask(method, path, body)
        assert status == 200, answer
        time.sleep(0.3)
    return 7


def medians(spells: list[dict[str, float]]) -> dict[str, float]:
    """Return the median over the spells of each percentile, in seconds, and how many spells there were."""
    return {"spells": len(spells), **{key: round(median(one[key] for one in spells), 4) for key in spells[0]}}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--fps", type=float, default=10.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = working_detector(Path(folder) / "working.onnx", size=(224, 224), layers=4)
        print(json.dumps(measure(model, seconds=options.seconds, streams=options.streams, fps=options.fps), indent=2))


if __name__ == "__main__":
    main()
