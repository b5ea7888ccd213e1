"""Times our trackers and the pip libraries on the same detections, side by side in one run.

    python -m tests.benchmarks.bench_track [--json track.json] [--rounds 5] [--frames 100]

Objects walk over a 1920x1080 picture and are detected with noise, misses and a few false alarms. Each round times every
library once, in turn, so that a busy machine slows all alike; the reported time is each one's median round, in CPU
milliseconds a frame of the whole process (a compiled library works in threads of its own). A library that is not
installed is named and left out (``pip install trackers similari-trackers-rs``).
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.detections import Detections
from pipeline.track import TRACKERS, open_tracker, update_many

OBJECT_COUNTS = (10, 25, 50, 200)
STREAM_COUNTS = (8, 32)
FRAMES_PER_SECOND = 25.0
_WARM_UP_FRAMES = 20

TrackFrame = Callable[[Detections, float], Any]


def walk(objects: int, frames: int, seed: int = 0) -> list[Detections]:
    """Detections of ``objects`` that walk about, a frame after another."""
    random = np.random.default_rng(seed)
    heights = random.uniform(50.0, 150.0, objects)
    size = np.stack([heights * 0.4, heights], axis=1)
    centre = random.uniform((0.0, 0.0), (1920.0, 1080.0), (objects, 2))
    velocity = random.normal(0.0, 3.0, (objects, 2))
    result = []
    for _ in range(frames):
        velocity += random.normal(0.0, 0.2, (objects, 2))
        velocity = np.where(
            (centre < 0.0) & (velocity < 0.0) | (centre > (1920.0, 1080.0)) & (velocity > 0.0), -velocity, velocity
        )
        centre = centre + velocity
        seen = random.random(objects) > 0.05
        noisy = centre[seen] + random.normal(0.0, 0.02, (seen.sum(), 2)) * size[seen]
        extent = size[seen] * random.normal(1.0, 0.02, (seen.sum(), 2))
        wrong = random.uniform((0.0, 0.0), (1920.0, 1080.0), (max(1, objects // 25), 2))
        low = np.concatenate([noisy - extent / 2.0, wrong])
        high = np.concatenate([noisy + extent / 2.0, wrong + np.array((40.0, 100.0))])
        scores = np.concatenate([random.uniform(0.5, 0.95, seen.sum()), random.uniform(0.1, 0.5, len(wrong))])
        xyxy = np.concatenate([low, high], axis=1).astype(np.float32)
        result.append(Detections(xyxy, scores.astype(np.float32), np.zeros(len(scores), np.int32)))
    return result


def our_trackers() -> dict[str, Callable[[], TrackFrame]]:
    """Name to maker of a fresh tracker."""

    def maker(name: str) -> Callable[[], TrackFrame]:
        def make() -> TrackFrame:
            tracker = open_tracker(name)
            return lambda found, seconds: tracker.update(found.xyxy, found.scores, found.class_ids, seconds)

        return make

    return {f"onpace {name}": maker(name) for name in TRACKERS}


def pip_trackers() -> tuple[dict[str, Callable[[], TrackFrame]], dict[str, str], list[str]]:
    """Makers of the libraries that are installed, their versions, and what is missing."""
    makers: dict[str, Callable[[], TrackFrame]] = {}
    versions: dict[str, str] = {}
    missing = []
    for package, add in (("trackers", _roboflow), ("similari-trackers-rs", _similari)):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            missing.append(package)
        else:
            makers.update(add())
    return makers, versions, missing


def _roboflow() -> dict[str, Callable[[], TrackFrame]]:
    import supervision
    import trackers

    def maker(kind: Any) -> Callable[[], TrackFrame]:
        def make() -> TrackFrame:
            tracker = kind(frame_rate=FRAMES_PER_SECOND)

            def track_frame(found: Detections, seconds: float) -> Any:
                detections = supervision.Detections(xyxy=found.xyxy, confidence=found.scores, class_id=found.class_ids)
                return tracker.update(detections)

            return track_frame

        return make

    return {
        "trackers ByteTrack": maker(trackers.ByteTrackTracker),
        "trackers SORT": maker(trackers.SORTTracker),
        "trackers OC-SORT": maker(trackers.OCSORTTracker),
    }


def _similari() -> dict[str, Callable[[], TrackFrame]]:
    import similari

    def make() -> TrackFrame:
        tracker = similari.Sort(
            shards=1, bbox_history=1, max_idle_epochs=25, method=similari.PositionalMetricType.iou(threshold=0.3)
        )

        def track_frame(found: Detections, seconds: float) -> Any:
            boxes = [
                (similari.BoundingBox(x1, y1, x2 - x1, y2 - y1).as_xyaah(), None)
                for x1, y1, x2, y2 in found.xyxy.tolist()
            ]
            return [(track.id, track.predicted_bbox) for track in tracker.predict(boxes)]

        return track_frame

    return {"similari SORT (Rust)": make}


def milliseconds_a_frame(make: Callable[[], TrackFrame], frames: list[Detections]) -> tuple[float, float]:
    """CPU of the process, and wall time, after a warm-up."""
    track_frame = make()
    for number in range(_WARM_UP_FRAMES):
        track_frame(frames[number], number / FRAMES_PER_SECOND)
    wall, cpu = time.perf_counter(), time.process_time()
    for number in range(_WARM_UP_FRAMES, len(frames)):
        track_frame(frames[number], number / FRAMES_PER_SECOND)
    scale = 1000.0 / (len(frames) - _WARM_UP_FRAMES)
    return (time.process_time() - cpu) * scale, (time.perf_counter() - wall) * scale


def side_by_side(rounds: int, frames: int) -> tuple[list[dict[str, Any]], dict[str, str], list[str]]:
    """Rows of name, objects and times; library versions; what is missing."""
    theirs, versions, missing = pip_trackers()
    makers = our_trackers() | theirs
    rows = []
    for objects in OBJECT_COUNTS:
        detections = walk(objects, frames + _WARM_UP_FRAMES)
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in makers}
        for _ in range(rounds):
            for name, make in makers.items():
                taken[name].append(milliseconds_a_frame(make, detections))
        for name, times in taken.items():
            cpu, wall = (statistics.median(column) for column in zip(*times, strict=True))
            rows.append({"tracker": name, "objects": objects, "cpu_ms": round(cpu, 4), "wall_ms": round(wall, 4)})
    return rows, versions, missing


def batches(rounds: int, frames: int, objects: int = 10) -> list[dict[str, Any]]:
    """CPU milliseconds a stream's frame: streams one after the other, and together."""
    rows = []
    for streams in STREAM_COUNTS:
        walks = [walk(objects, frames, seed) for seed in range(streams)]
        for name in TRACKERS:
            alone, together = [], []
            for _ in range(rounds):
                trackers = [open_tracker(name) for _ in walks]
                started = time.process_time()
                for number in range(frames):
                    for tracker, found in zip(trackers, walks, strict=True):
                        one = found[number]
                        tracker.update(one.xyxy, one.scores, one.class_ids, number / FRAMES_PER_SECOND)
                alone.append(time.process_time() - started)
                trackers = [open_tracker(name) for _ in walks]
                started = time.process_time()
                for number in range(frames):
                    update_many(trackers, [found[number] for found in walks], [number / FRAMES_PER_SECOND] * streams)
                together.append(time.process_time() - started)
            scale = 1000.0 / (frames * streams)
            rows.append(
                {
                    "tracker": f"onpace {name}",
                    "streams": streams,
                    "objects": objects,
                    "alone_cpu_ms": round(statistics.median(alone) * scale, 4),
                    "together_cpu_ms": round(statistics.median(together) * scale, 4),
                }
            )
    return rows


def show(document: dict[str, Any]) -> None:
    """Print the tables."""
    rows, missing = document["side_by_side"], document["missing"]
    print(f"{'CPU ms a frame':24}" + "".join(f"{objects:>6} objects" for objects in OBJECT_COUNTS))
    names = list(dict.fromkeys(row["tracker"] for row in rows))
    times = {(row["tracker"], row["objects"]): row["cpu_ms"] for row in rows}
    for name in names:
        print(f"{name:24}" + "".join(f"{times[name, objects]:14.3f}" for objects in OBJECT_COUNTS))
    for ours in (name for name in names if name.startswith("onpace")):
        for label, others in document["rivals"].items():
            if others:
                ratios = [
                    min(times[other, objects] for other in others) / times[ours, objects] for objects in OBJECT_COUNTS
                ]
                print(f"{ours} is faster than the fastest {label}: " + "  ".join(f"{ratio:.1f}x" for ratio in ratios))
    for package in missing:
        print(f"{package}: not installed, left out")
    for row in document["batches"]:
        print(
            f"{row['tracker']}, {row['streams']} streams of {row['objects']} objects: "
            f"{row['alone_cpu_ms']:.3f} ms a frame alone, {row['together_cpu_ms']:.3f} together"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("bench_track.json"), help="where the numbers go")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=100)
    options = parser.parse_args()
    rows, versions, missing = side_by_side(options.rounds, options.frames)
    theirs = [name for name in dict.fromkeys(row["tracker"] for row in rows) if not name.startswith("onpace")]
    document = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "libraries": versions,
        "missing": missing,
        "rivals": {
            "Python library": [name for name in theirs if "Rust" not in name],
            "compiled library": [name for name in theirs if "Rust" in name],
        },
        "side_by_side": rows,
        "batches": batches(options.rounds, options.frames),
    }
    options.json.write_text(json.dumps(document, indent=1) + "\n")
    show(document)


if __name__ == "__main__":
    main()
