"""Estimated headroom against what the ramp finds: ``python -m tests.benchmarks.bench_capacity``.

Runs ``onpace capacity`` on patterns of a low rate, so that many streams fit and one of them is a small step, with the
bundled detector, a generated one of known work and, where ONPACE_TEST_DATA is set, yolox_nano. Each step that keeps up
from a third of the capacity on has an estimate of its own.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from tests.helpers.onpace_process import REPOSITORY, onpace
from tests.helpers.test_data import data_folder
from tests.helpers.tiny_onnx import working_detector


def measure(folder: Path, model: Path, fps: int, seconds: float) -> dict[str, object]:
    """Ramp one model; return the largest number of streams and the estimates' errors."""
    config = folder / "c.yaml"
    config.write_text(
        f"streams: [{{id: a, url: 'pattern:?size=640x360&fps={fps}'}}]\ninfer: {{model: {model}, runtime: cpu}}\n"
    )
    process = onpace("capacity", config, "--measure", f"{seconds:g}s", "--json", timeout_seconds=560)
    if process.wait():
        raise SystemExit(process.stderr)
    report = json.loads(process.stdout)
    fits = report["streams"] + 0.5  # the ramp counts whole streams
    errors = {
        step["streams"]: (step["streams"] + step["headroom_streams"]) / fits - 1
        for step in report["steps"]
        if step["keeps_up"] and step["headroom_streams"] is not None and step["streams"] >= fits / 3
    }
    return {"streams": report["streams"], "limit": report["first_limit"], "errors": errors}


def main() -> None:
    """Print a row a model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each step")
    parser.add_argument("--json", type=Path, default=Path("bench_capacity.json"))
    arguments = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = {
            "street": (REPOSITORY / "samples" / "street.onnx", 10),
            "generated": (working_detector(folder / "working.onnx", layers=12), 6),
        }
        nano = data_folder() / "models" / "yolox_nano_416.onnx"
        if nano.is_file():
            models["yolox_nano"] = (nano, 4)
        for model_name, (model, fps) in models.items():
            row = found[model_name] = measure(folder, model, fps, arguments.seconds)
            shown = ", ".join(f"{error:+.0%} at {streams}" for streams, error in row["errors"].items())
            print(f"{model_name} at {fps} fps: {row['streams']} streams, then {row['limit']}; headroom off by {shown}")
    arguments.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
