"""Estimated headroom against what the ramp finds: ``python -m tests.benchmarks.bench_capacity``.

Runs ``onpace capacity`` on patterns of a low rate, so that many streams fit and one of them is a small step, with the
bundled detector, a generated one of known work and, where ONPACE_TEST_DATA is set, yolox_nano. Each step that keeps up
from half of the capacity on has an estimate of its own. Takes under four minutes.

The machine must be quiet: what others use counts as gone, and is gone for good in the estimate, while the ramp may well
get some of it. What they use is measured before each row and shown.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from pipeline.keepup.headroom import read_cpu_use
from tests.helpers.onpace_process import REPOSITORY, onpace
from tests.helpers.test_data import data_folder
from tests.helpers.tiny_onnx import working_detector

FIRST = 6
"""Streams of the first step: fewer than fit, and not so few that nothing is learned."""


def measure(folder: Path, model: Path, fps: int, seconds: float) -> dict[str, Any]:
    """Ramp one model; return the largest number of streams and the estimates' errors."""
    config = folder / "c.yaml"
    others = busy_cores()
    streams = "".join(f"  - {{id: s{n}, url: 'pattern:?size=640x360&fps={fps}'}}\n" for n in range(FIRST))
    config.write_text(f"streams:\n{streams}infer: {{model: {model}, runtime: cpu}}\n")
    process = onpace("capacity", config, "--measure", f"{seconds:g}s", "--json", timeout_seconds=300)
    if process.wait():
        raise SystemExit(process.stderr)
    report = json.loads(process.stdout)
    fits = report["streams"] + 0.5  # the ramp counts whole streams
    errors = {
        step["streams"]: (step["streams"] + step["headroom_streams"]) / fits - 1
        for step in report["steps"]
        if step["keeps_up"] and step["headroom_streams"] is not None and step["streams"] >= fits / 2
    }
    middle = statistics.median(errors.values()) if errors else None
    return {
        "streams": report["streams"],
        "limit": report["first_limit"],
        "errors": errors,
        "median_error": middle,
        "others_busy_cores": others,
    }


def busy_cores(seconds: float = 2.0) -> float:
    """Return how many cores everybody together uses while this program sleeps."""
    before = read_cpu_use().idle
    time.sleep(seconds)
    after = read_cpu_use().idle
    if before is None or after is None:
        return float("nan")
    return max(0.0, len(os.sched_getaffinity(0)) - (after - before) / seconds)


def main() -> None:
    """Print a row a model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each step")
    parser.add_argument("--models", nargs="+", help="only these of street, generated, yolox_nano")
    parser.add_argument("--json", type=Path, default=Path("bench_capacity.json"))
    arguments = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = {
            "street": (REPOSITORY / "samples" / "street.onnx", 10),
            "generated": (working_detector(folder / "working.onnx", layers=12), 5),
        }
        nano = data_folder() / "models" / "yolox_nano_416.onnx"
        if nano.is_file():
            models["yolox_nano"] = (nano, 8)
        for model_name, (model, fps) in models.items():
            if arguments.models and model_name not in arguments.models:
                continue
            row = found[model_name] = measure(folder, model, fps, arguments.seconds)
            shown = ", ".join(f"{error:+.0%} at {streams}" for streams, error in row["errors"].items())
            middle = "unknown" if row["median_error"] is None else f"{row['median_error']:+.0%}"
            print(
                f"{model_name} at {fps} fps: {row['streams']} streams, then {row['limit']}; headroom off by {shown}; "
                f"median {middle}; others used {row['others_busy_cores']:.1f} cores before",
                flush=True,
            )
    arguments.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
