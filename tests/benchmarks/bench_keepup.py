"""What the pipeline says of its pace against the truth: ``python -m tests.benchmarks.bench_keepup``.

Real parts: RTSP cameras of known rate in a process of their own, a detector of known work, ``onpace run`` as a user
starts it. First the capacity is measured (what comes out where a little more goes in), then cameras bring 0.5, 0.9,
1.0, 1.1 and 3 times that, one camera and eight. The truth is what the cameras sent and what was published, frame by
frame.
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

from tests.helpers.numbered_clip import Clip, NumberedClip
from tests.helpers.onpace_process import OnpaceProcess, balanced
from tests.helpers.rtsp_process import RtspServerProcess
from tests.helpers.tiny_onnx import working_detector

LOADS = (0.5, 0.9, 1.0, 1.1, 3.0)
STREAMS = (1, 8)
WINDOW_SECONDS = 5.0


@dataclass
class Cell:
    """One load on so many streams."""

    streams: int
    load: float
    fps_each: float
    true_share: float
    """Published over sent, whole run."""
    reported_share: float
    window_error: float | None
    """Median difference of reported and true keep-up over the status messages, each over its own window."""
    window_error_p95: float | None
    sent: int
    dropped_true: int
    dropped_reported: int
    exact: bool
    """Every stream: received equals sent, the ledger balances, drops are the frames that did not come out."""
    age_p50: float
    age_max: float
    fairness: float
    """What the slowest camera got over a fair share."""
    verdicts: str
    """Of the first camera, in order, with seconds since its first picture."""
    headroom: float | None
    """Median estimate, in cameras; against ``fits``."""
    fits: float
    """What would fit besides, by the measured capacity."""


def play(
    folder: Path, model: Path, clip: Clip, streams: int, fps_each: float, seconds: float, deadline: str
) -> dict[str, Any]:
    """Run cameras of ``fps_each`` for so long; return what was sent, said and published."""
    out, summary_path, config = folder / "out.jsonl", folder / "summary.json", folder / "c.yaml"
    out.unlink(missing_ok=True)
    frames = round(fps_each * seconds)
    with RtspServerProcess() as server:
        cameras = {f"c{n}": server.add_camera(f"c{n}", clip, fps=fps_each, frames=frames) for n in range(streams)}
        rows = "".join(f"  - {{id: {name}, url: '{camera.url}'}}\n" for name, camera in cameras.items())
        config.write_text(
            f"streams:\n{rows}infer: {{model: {model}, runtime: cpu}}\ndecode: {{threads: 1}}\n"
            f"overload: {{deadline: {deadline}}}\n"
            f"publish: {{sinks: ['jsonl:{out}'], status_interval: 200ms}}\n"
        )
        with OnpaceProcess("run", config, "--summary", summary_path) as process:
            until = time.monotonic() + seconds + 20
            while any(len(camera.sent) < frames for camera in cameras.values()) and time.monotonic() < until:
                time.sleep(0.2)
            time.sleep(1.0)
            process.signal(signal.SIGTERM)
            if process.wait(30):
                raise SystemExit(process.stderr)
        sent = {name: len(camera.sent) for name, camera in cameras.items()}
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    summary = json.loads(summary_path.read_text())
    return {"sent": sent, "lines": lines, "streams": {stream["id"]: stream for stream in summary["streams"]}}


def capacity_of(
    folder: Path, model: Path, clip: Clip, streams: int, guess_fps: float, seconds: float, deadline: str
) -> float:
    """Return the frames a second that come out where a fifth more goes in.

    In two runs, because what goes in beyond that must be decoded too, and takes from what comes out.
    """
    for _ in range(2):
        lines = play(folder, model, clip, streams, 1.2 * guess_fps / streams, seconds, deadline)["lines"]
        times = sorted(line["published_utc"] for line in lines if line["kind"] == "detections")
        begun = max(min(t for t in times), times[-1] - (seconds - 3))
        guess_fps = sum(begun < t for t in times) / (times[-1] - begun)
    return guess_fps


def judge(run: dict[str, Any], streams: int, load: float, fps_each: float, capacity: float) -> Cell:
    """Hold what was said against the truth."""
    published: dict[str, list[dict[str, Any]]] = {name: [] for name in run["sent"]}
    status: dict[str, list[dict[str, Any]]] = {name: [] for name in run["sent"]}
    for line in run["lines"]:
        (published if line["kind"] == "detections" else status)[line["stream_id"]].append(line)
    sent, out = sum(run["sent"].values()), sum(len(lines) for lines in published.values())
    received = sum(stream["received"] for stream in run["streams"].values())
    exact = all(
        balanced(stream)
        and stream["received"] == run["sent"][name]
        and stream["published"] == len({line["frame_index"] for line in published[name]}) == len(published[name])
        for name, stream in run["streams"].items()
    )
    ages = [line["age_seconds"] for lines in published.values() for line in lines]
    errors = sorted(_window_errors(published["c0"], status["c0"]))
    estimates = [
        s["headroom_streams"] for s in status["c0"] if s["state"] == "live" and s["headroom_streams"] is not None
    ]
    return Cell(
        streams=streams,
        load=load,
        fps_each=round(fps_each, 2),
        true_share=out / sent,
        reported_share=sum(stream["published"] for stream in run["streams"].values()) / received,
        window_error=_quantile(errors, 0.5),
        window_error_p95=_quantile(errors, 0.95),
        sent=sent,
        dropped_true=sent - out,
        dropped_reported=sum(
            count for stream in run["streams"].values() for why in stream["dropped"].values() for count in why.values()
        ),
        exact=exact,
        age_p50=statistics.median(ages),
        age_max=max(ages),
        fairness=min(len(lines) for lines in published.values()) / (out / streams),
        verdicts=_verdicts(published["c0"], status["c0"]),
        headroom=statistics.median(estimates[len(estimates) // 3 :]) if estimates else None,
        fits=capacity / fps_each - streams,
    )


def _window_errors(lines: list[dict[str, Any]], statuses: list[dict[str, Any]]) -> list[float]:
    """Return the differences of reported and true keep-up, over whole windows while the camera is live.

    The camera's frames are numbered: of those between two results, the true share is what came out. A status says how
    many results there were when it was made, so the window's end is known to the frame; it may have been published
    later. Its begin is known to a sub-window, and at either edge nobody can tell whether the frames that are missing
    between two results were lost before the edge or after it. Where that matters (losses that come in clusters, on a
    busy machine), any share that fits the edges is true.
    """
    begun, ended = lines[0]["published_utc"], lines[-1]["published_utc"]
    errors = []
    for status in statuses:
        last, share = status["published"] - 1, status["published_share"]
        if not begun + WINDOW_SECONDS + 1 < status["published_utc"] < ended or share is None or last + 1 >= len(lines):
            continue
        # The window slides in steps of a twentieth, and so reaches back between 4.75 and 5 s.
        earliest = lines[last]["published_utc"] - WINDOW_SECONDS
        latest = min(status["published_utc"], lines[last + 1]["published_utc"]) - WINDOW_SECONDS * 19 / 20
        shares = [
            (last - first + 1) / (end - base)
            for first in range(1, last + 1)
            if lines[first]["published_utc"] >= earliest and lines[first - 1]["published_utc"] <= latest
            for base in (lines[first - 1]["frame_index"], lines[first]["frame_index"] - 1)
            for end in (lines[last]["frame_index"], lines[last + 1]["frame_index"] - 1)
        ]
        if shares:
            errors.append(max(0.0, share - max(shares), min(shares) - share))
    return errors


def _quantile(values: list[float], share: float) -> float | None:
    """Return the value below which so many of the sorted ``values`` lie."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else None


def _verdicts(lines: list[dict[str, Any]], statuses: list[dict[str, Any]]) -> str:
    begun, ended = lines[0]["published_utc"], lines[-1]["published_utc"]
    changes: list[str] = []
    last = ""
    for status in statuses:
        if begun - 0.5 <= status["published_utc"] <= ended and status["verdict"] != last:
            last = status["verdict"]
            changes.append(f"{last}@{max(0.0, status['published_utc'] - begun):.1f}")
    return " ".join(changes)


def show(cell: Cell) -> None:
    """Print one row."""
    error = "-" if cell.window_error is None else f"{cell.window_error:.1%} {cell.window_error_p95:.1%}"
    headroom = "-" if cell.headroom is None else f"{cell.headroom:+.1f}"
    print(
        f"{cell.streams:2} {cell.load:4.1f} {cell.fps_each:7.1f} "
        f"{cell.true_share:7.1%} {cell.reported_share:8.1%} {error:>10} "
        f"{cell.sent:5} {cell.dropped_true:6} {cell.dropped_reported:8} {'yes' if cell.exact else 'NO':>5} "
        f"{cell.age_p50:6.3f} {cell.age_max:6.3f} {cell.fairness:5.2f} {headroom:>6} {cell.fits:+6.1f}  "
        f"{cell.verdicts}",
        flush=True,
    )


def main() -> None:
    """Print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=12.0, help="of each run")
    parser.add_argument("--deadline", default="1s", help="oldest that a published frame may be")
    parser.add_argument("--layers", type=int, default=12, help="work of the detector")
    parser.add_argument("--guess", type=float, default=100.0, help="about the capacity in frames a second, rather more")
    parser.add_argument("--streams", type=int, nargs="+", default=STREAMS)
    parser.add_argument("--loads", type=float, nargs="+", default=LOADS)
    parser.add_argument("--json", type=Path, default=Path("bench_keepup.json"))
    arguments = parser.parse_args()
    cells: list[Cell] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = working_detector(folder / "working.onnx", layers=arguments.layers)
        clip = NumberedClip.make(folder, fps=25, frames=500)
        print(
            " n load fps/cam    true reported window p95  sent   lost reported exact age50  max    fair  room   fits  "
            "verdicts of the first camera"
        )
        for streams in arguments.streams:
            capacity = capacity_of(folder, model, clip, streams, arguments.guess, arguments.seconds, arguments.deadline)
            print(
                f"   {streams} camera{'s' if streams > 1 else ''}: capacity {capacity:.1f} frames a second", flush=True
            )
            for load in arguments.loads:
                fps_each = load * capacity / streams
                run = play(folder, model, clip, streams, fps_each, arguments.seconds, arguments.deadline)
                cells.append(judge(run, streams, load, fps_each, capacity))
                show(cells[-1])
    arguments.json.write_text(json.dumps([asdict(cell) for cell in cells], indent=2) + "\n")
    sys.exit(0 if all(cell.exact for cell in cells) else 1)


if __name__ == "__main__":
    main()
