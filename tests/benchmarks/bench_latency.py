"""How old results are on a machine that cannot do it all: ``python -m tests.benchmarks.bench_latency``.

yolov8n at 640 and one 720p30 RTSP camera, about twice what two cores can do, with the default configuration. Bare ONNX
Runtime (the better of one wide run and several narrow ones) and ``onpace run`` take turns in one run of this script.
The camera is the scriptable server of the tests in a process of its own; what it takes from the cores is measured, too.
The truth is its log: which numbered picture it sent and when the picture was taken. Needs ONPACE_TEST_DATA.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from tests.benchmarks.bench_pipeline import measure
from tests.helpers.numbered_clip import NumberedClip
from tests.helpers.onpace_process import OnpaceProcess, balanced
from tests.helpers.rtsp_process import RtspServerProcess
from tests.helpers.test_data import data_folder

MODEL = "models/yolov8n_640_dequant_AGPL.onnx"
FPS = 30.0
WARM_UP_SECONDS = 3.0
GOALS = {"ratio": 0.92, "age_p50": 0.13, "age_p95": 0.16, "memory_growth_mb": 10.0}


@dataclass
class Round:
    """One turn of both."""

    bare_fps: float
    fps: float
    age_p50: float
    """True age in seconds: from when the camera took the picture to publishing."""
    age_p95: float
    age_max: float
    reported_p50: float
    """What the messages say."""
    reported_p95: float
    sent: int
    dropped_true: int
    """Pictures sent whose result did not come out."""
    dropped_reported: int
    exact: bool
    memory_growth_mb: float
    """Resident memory at the end, less what it was after the warm-up."""
    server_cores: float
    """Processor time of the RTSP server, in cores."""
    pipeline_cores: float


def play(folder: Path, model: Path, clip: NumberedClip, seconds: float, extra: str = "") -> dict[str, Any]:
    """Run ``onpace run`` on the camera for so long; return what was sent, published and used."""
    out, summary, config = folder / "out.jsonl", folder / "summary.json", folder / "c.yaml"
    out.unlink(missing_ok=True)
    frames = round(FPS * (seconds + WARM_UP_SECONDS))
    with RtspServerProcess() as server:
        camera = server.add_camera("cam", clip, fps=FPS, frames=frames)
        config.write_text(
            f"streams: [{{id: cam, url: '{camera.url}'}}]\ninfer: {{model: {model}}}\n"
            f"publish: {{sinks: ['jsonl:{out}']}}\n{extra}"
        )
        with OnpaceProcess("run", config, "--summary", summary) as process:
            playing = psutil.Process(process.pid), psutil.Process(server.pid)
            camera.wait_for_sent(round(FPS * WARM_UP_SECONDS), 60)
            begun, used, memory = time.monotonic(), [_cpu(one) for one in playing], playing[0].memory_info().rss
            time.sleep(seconds - 1)
            cores = [
                (_cpu(one) - before) / (time.monotonic() - begun) for one, before in zip(playing, used, strict=True)
            ]
            growth = playing[0].memory_info().rss - memory
            camera.wait_for_sent(frames, 30)
            time.sleep(1.0)
            process.signal(signal.SIGTERM)
            if process.wait(30):
                raise SystemExit(process.stderr)
        sent = camera.sent
    [stream] = json.loads(summary.read_text())["streams"]
    lines = [line for line in map(json.loads, out.read_text().splitlines()) if line["kind"] == "detections"]
    return {"sent": sent, "stream": stream, "lines": lines, "cores": cores, "growth": growth, "log": process.stderr}


def judge(run: dict[str, Any], bare_fps: float) -> Round:
    """Hold what was said against what the camera knows."""
    sent, lines, stream = run["sent"], run["lines"], run["stream"]
    taken_at = {entry.index - sent[0].index: entry.wall_seconds for entry in sent}
    steady = [line for line in lines if line["frame_index"] >= FPS * WARM_UP_SECONDS]
    true = [line["published_utc"] - taken_at[line["frame_index"]] for line in steady]
    said = [line["age_seconds"] for line in steady]
    seconds = steady[-1]["published_utc"] - steady[0]["published_utc"]
    dropped = sum(count for reasons in stream["dropped"].values() for count in reasons.values())
    numbers = {line["frame_index"] for line in lines}
    return Round(
        bare_fps=bare_fps,
        fps=(len(steady) - 1) / seconds,
        age_p50=float(np.percentile(true, 50)),
        age_p95=float(np.percentile(true, 95)),
        age_max=max(true),
        reported_p50=float(np.percentile(said, 50)),
        reported_p95=float(np.percentile(said, 95)),
        sent=len(sent),
        dropped_true=len(sent) - len(numbers),
        dropped_reported=dropped,
        exact=balanced(stream) and stream["received"] == len(sent) and len(numbers) == len(lines),
        memory_growth_mb=run["growth"] / 1e6,
        server_cores=run["cores"][1],
        pipeline_cores=run["cores"][0],
    )


def bare(model: Path, seconds: float) -> float:
    """Return pictures a second of the engine alone, in its better shape."""
    return max(measure(kind, {"model": model}, seconds)["fps"] for kind in ("bare_wide", "bare_narrow"))


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def verdict(rounds: list[Round]) -> dict[str, bool]:
    """Return which goals are reached: medians over the rounds; drops must be exact in each."""
    middle = {name: statistics.median(getattr(one, name) for one in rounds) for name in ("age_p50", "age_p95")}
    return {
        "ratio": statistics.median(one.fps / one.bare_fps for one in rounds) >= GOALS["ratio"],
        "age_p50": middle["age_p50"] <= GOALS["age_p50"],
        "age_p95": middle["age_p95"] <= GOALS["age_p95"],
        "memory": statistics.median(one.memory_growth_mb for one in rounds) <= GOALS["memory_growth_mb"],
        "drops": all(one.exact and one.dropped_true == one.dropped_reported for one in rounds),
    }


def main() -> None:
    """Print a row a round, and whether the goals are reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each turn of the pipeline")
    parser.add_argument("--extra", default="", help="further lines of configuration; the goals are for none")
    parser.add_argument("--json", type=Path, default=Path("bench_latency.json"))
    arguments = parser.parse_args()
    model = data_folder() / MODEL
    if not model.is_file():
        raise SystemExit(f"no model at {model}; set ONPACE_TEST_DATA to the folder that holds models/")
    rounds: list[Round] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = NumberedClip.make(folder, width=1280, height=720, fps=FPS, frames=300, gop=30)
        print(
            "  bare   fps ratio  age50  age95    max  said50 said95  sent   lost reported exact  MB+  server pipeline"
        )
        for _ in range(arguments.rounds):
            before = bare(model, 4.0)
            run = play(folder, model, clip, arguments.seconds, arguments.extra.replace("\\n", "\n"))
            one = judge(run, max(before, bare(model, 4.0)))
            rounds.append(one)
            print(
                f"{one.bare_fps:6.2f} {one.fps:5.2f} {one.fps / one.bare_fps:5.3f} "
                f"{one.age_p50:6.3f} {one.age_p95:6.3f} {one.age_max:6.3f}  {one.reported_p50:6.3f} "
                f"{one.reported_p95:6.3f} {one.sent:5} {one.dropped_true:6} {one.dropped_reported:8} "
                f"{'yes' if one.exact else 'NO':>5} {one.memory_growth_mb:4.1f} {one.server_cores:6.3f} "
                f"{one.pipeline_cores:8.2f}",
                flush=True,
            )
            print(next((line for line in run["log"].splitlines() if "onpace.run" in line), ""), file=sys.stderr)
    reached = verdict(rounds)
    print("; ".join(f"{goal}: {'reached' if met else 'MISSED'}" for goal, met in reached.items()))
    arguments.json.write_text(json.dumps({"rounds": [asdict(one) for one in rounds], "reached": reached}, indent=2))
    sys.exit(0 if all(reached.values()) else 1)


if __name__ == "__main__":
    main()
