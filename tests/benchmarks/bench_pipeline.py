"""The pipeline against the bare engine, bare decoding and the usual script: ``make bench``.

Every row compares things measured in turn in one run (A B A B ...), each in a process of its own, and shows the median
of the ratios of neighbours: the machine's moods cancel. Needs the test videos and models (ONPACE_TEST_DATA).
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.helpers.test_data import data_folder
from tests.helpers.tiny_onnx import do_nothing_detector

VIDEO = "videos/one-by-one-person-detection.mp4"


@dataclass(frozen=True)
class Row:
    """One comparison: what is measured, against the best of the others."""

    name: str
    measured: tuple[str, dict[str, object]]
    against: tuple[tuple[str, dict[str, object]], ...]
    floor: float
    aim: float


def rows(data: Path, folder: Path) -> list[Row]:
    """The table of the README."""
    nothing = folder / "nothing.onnx"
    do_nothing_detector(nothing, size=(416, 416), classes=1)
    table = []
    for model_name, file, floor, aim in (
        ("yolov8n 640", "yolov8n_640_dequant_AGPL.onnx", 0.94, 0.98),
        ("yolox_nano 416", "yolox_nano_416.onnx", 0.88, 0.95),
    ):
        model = {"model": data / "models" / file}
        bare = (("bare_wide", model), ("bare_narrow", model))
        for streams in (1, 4):
            measured = ("pipeline", {**model, "video": data / VIDEO, "streams": streams})
            plural = "s" if streams > 1 else ""
            table.append(Row(f"{model_name}, {streams} stream{plural} / bare ONNX Runtime", measured, bare, floor, aim))
    nano = {"model": nothing, "video": data / VIDEO}
    decode = (("bare_decode", {"video": data / VIDEO}),)
    table.append(Row("a model that does nothing, 416x416 / bare decode to YUV", ("pipeline", nano), decode, 0.75, 0.90))
    v8 = {"model": data / "models/yolov8n_640_dequant_AGPL.onnx", "video": data / VIDEO}
    table.append(Row("yolov8n 640 / the usual script", ("pipeline", v8), (("script", v8),), 1.20, 1.35))
    return table


def measure(kind: str, options: dict[str, object], seconds: float) -> dict[str, float]:
    """Run one measurement in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.measure", kind, "--seconds", str(seconds)]
    for key, value in options.items():
        command += [f"--{key}", str(value)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(row: Row, rounds: int, seconds: float) -> dict[str, object]:
    """Measure one row in turn; return medians."""
    ratios, ours, theirs, memory = [], [], [], []
    for _ in range(rounds):
        best = max(measure(kind, options, seconds)["fps"] for kind, options in row.against)
        mine = measure(*row.measured, seconds)
        ratios.append(mine["fps"] / best)
        ours.append(mine["fps"])
        theirs.append(best)
        memory.append(mine["peak_rss_mb"])
    return {
        "name": row.name,
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "fps": statistics.median(ours),
        "against_fps": statistics.median(theirs),
        "floor": row.floor,
        "aim": row.aim,
        "peak_rss_mb": max(memory),
    }


def main() -> None:
    """Print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    parser.add_argument("--only", default="", help="rows whose name holds this")
    parser.add_argument("--json", type=Path, default=Path("bench.json"))
    arguments = parser.parse_args()
    machine = (
        f"{platform.processor() or platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}"
    )
    print(machine)
    print(
        f"{'pipeline fps / ...':58} {'ratio':>6} {'min':>5} {'max':>5} {'floor':>6} {'aim':>5} {'fps':>7} {'RSS MB':>7}"
    )
    results = []
    data = data_folder()
    if not data.is_dir():
        raise SystemExit(f"no test data at {data}; set ONPACE_TEST_DATA to the folder that holds videos/ and models/")
    with tempfile.TemporaryDirectory() as folder:
        for row in rows(data, Path(folder)):
            if arguments.only not in row.name:
                continue
            result = compare(row, arguments.rounds, arguments.seconds)
            results.append(result)
            print(
                f"{result['name']:58} {result['ratio']:6.3f} {result['ratio_min']:5.2f} {result['ratio_max']:5.2f} "
                f"{result['floor']:6.2f} {result['aim']:5.2f} {result['fps']:7.1f} {result['peak_rss_mb']:7.0f}",
                flush=True,
            )
    arguments.json.write_text(json.dumps({"machine": machine, "rows": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
