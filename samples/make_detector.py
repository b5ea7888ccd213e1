"""Trains, exports and evaluates the bundled detector, ``street.onnx``.

Train on random rendered scenes (PyTorch, a GPU for the full size) and export:

    python samples/make_detector.py --train --out samples/street.onnx

Evaluate on the bundled clip (ONNX Runtime on the CPU, PyAV):

    python samples/make_detector.py --evaluate
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from scene.scoring import ap50, read_output  # noqa: E402

if TYPE_CHECKING:
    from numpy.typing import NDArray

INPUT_WIDTH, INPUT_HEIGHT = 384, 224
PAD = 114


def letterbox(image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float, tuple[int, int]]:
    """An RGB frame ``[H, W, 3]`` as an input ``[1, 3, h, w]``, with its scale and (left, top) padding."""
    height, width = image.shape[:2]
    scale = min(INPUT_WIDTH / width, INPUT_HEIGHT / height)
    size = (round(width * scale), round(height * scale))
    left, top = (INPUT_WIDTH - size[0]) // 2, (INPUT_HEIGHT - size[1]) // 2
    padded = np.full((INPUT_HEIGHT, INPUT_WIDTH, 3), PAD, np.uint8)
    padded[top : top + size[1], left : left + size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    return padded.transpose(2, 0, 1)[None].astype(np.float32) / 255, scale, (left, top)


def evaluate(model: Path, clip: Path, truth_file: Path) -> dict[str, Any]:
    """AP50 by class and mean on a clip, and milliseconds a frame on one thread."""
    import av
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    wanted = [
        np.array([[*entry["xyxy"], entry["class_id"], entry["ignore"]] for entry in frame["objects"]]).reshape(-1, 6)
        for frame in json.loads(truth_file.read_text())["frames"]
    ]
    found, durations = [], []
    with av.open(str(clip)) as container:
        for frame in container.decode(video=0):
            images, scale, padding = letterbox(frame.to_ndarray(format="rgb24"))
            started = time.perf_counter()
            output = session.run(None, {"images": images})[0][0]
            durations.append(time.perf_counter() - started)
            detections = read_output(output)
            detections[:, :4] = (detections[:, :4] - padding * 2) / scale
            found.append(detections)
    report: dict[str, Any] = {"ap50": {name: round(value, 4) for name, value in ap50(found, wanted).items()}}
    return {**report, "frames": len(found), "median_ms_one_thread": round(1000 * float(np.median(durations)), 2)}


def train(options: argparse.Namespace) -> None:
    """Render the training set, train, log, and export."""
    from scene.learning import export, fit
    from scene.training import render_training_set

    size = (INPUT_WIDTH, INPUT_WIDTH * 9 // 16)
    started = time.monotonic()
    frames, objects = render_training_set(options.scenes, size, options.workers)
    held_out = render_training_set(options.held_out_scenes, size, options.workers, first_seed=1_000_000)
    print(f"rendered {len(frames)} + {len(held_out[0])} frames in {time.monotonic() - started:.0f} s", flush=True)
    network = fit(frames, objects, (INPUT_WIDTH, INPUT_HEIGHT), PAD, options.steps, options.batch, options.seconds)
    export(network, options.out, (INPUT_WIDTH, INPUT_HEIGHT))
    print(f"trained and exported after {time.monotonic() - started:.0f} s", flush=True)
    print(f"held-out scenes: {_evaluate_held_out(options.out, *held_out)}", flush=True)


def _evaluate_held_out(model: Path, frames: NDArray[np.uint8], objects: NDArray[np.float32]) -> dict[str, float]:
    """AP50 on rendered frames that were neither trained on nor compressed as video."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    found, wanted = [], []
    for image, rows in zip(frames, objects, strict=True):
        images, scale, padding = letterbox(image)
        detections = read_output(session.run(None, {"images": images})[0][0])
        detections[:, :4] = (detections[:, :4] - padding * 2) / scale
        found.append(detections)
        wanted.append(rows[rows[:, 4] >= 0].astype(np.float64))
    return {name: round(value, 4) for name, value in ap50(found, wanted).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--train", action="store_true", help="render, train and export")
    action.add_argument("--evaluate", action="store_true", help="print AP50 on the clip as JSON")
    parser.add_argument("--out", type=Path, default=HERE / "street.onnx", help="where --train writes the model")
    parser.add_argument("--model", type=Path, default=HERE / "street.onnx", help="what --evaluate reads")
    parser.add_argument("--clip", type=Path, default=HERE / "street.mp4")
    parser.add_argument("--truth", type=Path, default=HERE / "street_truth.json")
    parser.add_argument("--scenes", type=int, default=1500, help="training scenes, 6 frames each")
    parser.add_argument("--held-out-scenes", type=int, default=60)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--seconds", type=float, default=1e9, help="end the schedule early, after this long")
    parser.add_argument("--batch", type=int, default=160)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="rendering processes")
    options = parser.parse_args()
    if options.train:
        train(options)
    else:
        print(json.dumps(evaluate(options.model, options.clip, options.truth), indent=2))


if __name__ == "__main__":
    main()
