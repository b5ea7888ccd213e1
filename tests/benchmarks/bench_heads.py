"""How long reading one picture's outputs takes: the heads here beside NumPy as it is usually written.

    python -m tests.benchmarks.bench_heads [--json FILE] [--rounds N]

8,400 candidates (YOLOX: at 640x640 too), 80 classes, 300 boxes above the threshold; head and suppression, one core.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np

from engines.model_spec import ModelSpec, PixelSpec, TensorSpec
from pipeline.detections import Detections
from pipeline.frame import Size
from pipeline.letterbox import Letterbox
from pipeline.postprocess.head import open_head
from pipeline.postprocess.postprocess import Postprocess

SIDE, CLASSES, CANDIDATES, SURVIVORS = 640, 80, 8400, 300
SCORE, IOU = 0.25, 0.5
GEOMETRY = Letterbox.fit(Size(1280, 720), Size(SIDE, SIDE))

Case = tuple[str, np.ndarray, Callable[[], object], Callable[[], object]]


def main() -> None:
    """Print the table; write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--rounds", type=int, default=60)
    arguments = parser.parse_args()
    rows = [_time(case, arguments.rounds) for case in _cases()]
    print(f"{'outputs':34} {'here ms':>9} {'usual ms':>9} {'times':>6}")
    for row in rows:
        print(f"{row['outputs']:34} {row['ms']:9.3f} {row['usual_ms']:9.3f} {row['times_faster']:6.1f}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"heads": rows}, indent=2) + "\n")


def _cases() -> list[Case]:
    channels, rows, yolox = _yolov8_output(), None, _yolox_output()
    rows = np.ascontiguousarray(channels.transpose(0, 2, 1))
    cases = []
    for dtype in ("float32", "float16"):
        for label, family, output, options in (
            ("yolov8 [1, 84, 8400]", "yolov8", channels, {"rows": "channels"}),
            ("yolov8 [1, 8400, 84]", "yolov8", rows, {"rows": "candidates"}),
            ("yolox [1, 8400, 85]", "yolox", yolox, {}),
        ):
            typed = output.astype(dtype)
            spec = _spec(family, typed, options)
            step = Postprocess(spec, open_head(spec), score_threshold=SCORE, iou_threshold=IOU, max_detections=300)
            cases.append((f"{label} {dtype}", typed, _ours(step, typed), _usual(family, typed, options)))
    return cases


def _ours(step: Postprocess, output: np.ndarray) -> Callable[[], Detections]:
    outputs = {"output": output}
    return lambda: step(outputs, 0, GEOMETRY)


def _usual(family: str, output: np.ndarray, options: dict[str, str]) -> Callable[[], object]:
    if family == "yolox":
        return lambda: _usual_yolox(output[0])
    return lambda: _usual_yolov8(output[0].T if options["rows"] == "channels" else output[0])


def _usual_yolov8(rows: np.ndarray) -> tuple[np.ndarray, ...]:
    """Transpose, argmax and max over everything, boxes, then a loop."""
    scores, class_ids = rows[:, 4:].max(axis=1), rows[:, 4:].argmax(axis=1)
    keep = scores > SCORE
    return _usual_suppression(_usual_corners(rows[keep, :4]), scores[keep], class_ids[keep])


def _usual_yolox(rows: np.ndarray) -> tuple[np.ndarray, ...]:
    """Decode every cell, multiply every score, then a loop."""
    grids, strides = [], []
    for stride in (8, 16, 32):
        side = SIDE // stride
        x, y = np.meshgrid(np.arange(side), np.arange(side))
        grids.append(np.stack((x, y), 2).reshape(-1, 2))
        strides.append(np.full((side * side, 1), stride))
    grid, stride = np.concatenate(grids), np.concatenate(strides)
    boxes = np.concatenate([(rows[:, :2] + grid) * stride, np.exp(rows[:, 2:4]) * stride], axis=1)
    every = rows[:, 4:5] * rows[:, 5:]
    scores, class_ids = every.max(axis=1), every.argmax(axis=1)
    keep = scores > SCORE
    return _usual_suppression(_usual_corners(boxes[keep]), scores[keep], class_ids[keep])


def _usual_corners(boxes: np.ndarray) -> np.ndarray:
    x, y, w, h = boxes.T
    return np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=1)


def _usual_suppression(xyxy: np.ndarray, scores: np.ndarray, class_ids: np.ndarray) -> tuple[np.ndarray, ...]:
    moved = xyxy + class_ids[:, None] * 7680.0
    x1, y1, x2, y2 = moved.T
    areas = (x2 - x1) * (y2 - y1)
    order, keep = scores.argsort()[::-1], []
    while order.size:
        first, rest = order[0], order[1:]
        keep.append(first)
        width = np.maximum(0, np.minimum(x2[first], x2[rest]) - np.maximum(x1[first], x1[rest]))
        height = np.maximum(0, np.minimum(y2[first], y2[rest]) - np.maximum(y1[first], y1[rest]))
        shared = width * height
        order = rest[shared / (areas[first] + areas[rest] - shared) <= IOU]
    return xyxy[keep], scores[keep], class_ids[keep]


def _time(case: Case, rounds: int) -> dict[str, float | str]:
    """Run both in turn, so that whatever else the machine does falls on both; medians."""
    label, _, ours, usual = case
    times: dict[str, list[float]] = {"ours": [], "usual": []}
    for _ in range(rounds):
        for name, run in (("ours", ours), ("usual", usual)):
            begun = perf_counter()
            run()
            times[name].append(perf_counter() - begun)
    ms, usual_ms = (1000 * statistics.median(times[name]) for name in ("ours", "usual"))
    return {
        "outputs": label,
        "ms": round(ms, 4),
        "usual_ms": round(usual_ms, 4),
        "times_faster": round(usual_ms / ms, 2),
        "best_ms": round(1000 * min(times["ours"]), 4),
    }


def _yolov8_output() -> np.ndarray:
    random = np.random.default_rng(0)
    output = np.empty((1, 4 + CLASSES, CANDIDATES), np.float32)
    output[0, :2] = random.uniform(50, SIDE - 50, (2, CANDIDATES))
    output[0, 2:4] = random.uniform(10, 100, (2, CANDIDATES))
    output[0, 4:] = random.random((CLASSES, CANDIDATES)) ** 8 * 0.2  # most scores are next to nothing
    found = random.choice(CANDIDATES, SURVIVORS, replace=False)
    output[0, 4 + random.integers(0, CLASSES, SURVIVORS), found] = random.uniform(0.3, 0.9, SURVIVORS)
    return output


def _yolox_output() -> np.ndarray:
    random = np.random.default_rng(0)
    output = np.empty((1, CANDIDATES, 5 + CLASSES), np.float32)
    output[0, :, :2] = random.uniform(0, 1, (CANDIDATES, 2))
    output[0, :, 2:4] = random.uniform(0, 1.5, (CANDIDATES, 2))
    output[0, :, 4] = random.random(CANDIDATES) ** 8 * 0.2
    output[0, :, 5:] = random.random((CANDIDATES, CLASSES)) ** 8 * 0.2
    found = random.choice(CANDIDATES, SURVIVORS, replace=False)
    output[0, found, 4] = random.uniform(0.6, 0.95, SURVIVORS)
    output[0, found, 5 + random.integers(0, CLASSES, SURVIVORS)] = random.uniform(0.6, 0.95, SURVIVORS)
    return output


def _spec(family: str, output: np.ndarray, options: dict[str, str]) -> ModelSpec:
    return ModelSpec(
        name="bench",
        sha256="",
        family=family,  # type: ignore[arg-type]
        image_input=TensorSpec("images", str(output.dtype), (1, 3, SIDE, SIDE)),
        input_width=SIDE,
        input_height=SIDE,
        max_batch=1,
        outputs=(TensorSpec("output", str(output.dtype), output.shape),),
        class_names=tuple(map(str, range(CLASSES))),
        pixels=PixelSpec(),
        head_options=options,
    )


if __name__ == "__main__":
    main()
