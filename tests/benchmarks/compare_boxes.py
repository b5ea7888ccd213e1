"""Boxes of a runtime against the CPU's in fp32, matched by class and IoU, on 16 pictures of a folder.

python -m tests.benchmarks.compare_boxes samples/street.onnx street/images tensorrt:fp32 tensorrt:fp16 --level 1
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from engines.inspect_model import read_model_spec
from engines.runtime import PlanOptions, RuntimeOptions, open_runtime
from engines.trt.options import BuildOptions
from pipeline.accuracy.calibration import calibration_from
from pipeline.accuracy.detect import detect
from pipeline.detections import Detections
from pipeline.postprocess.head import open_head
from pipeline.postprocess.postprocess import Postprocess
from pipeline.preprocess.host import HostPreprocess

PICTURES = 16
SCORE = 0.25
LEAST_IOU = 0.5


def found(arguments: argparse.Namespace, runtime: str, precision: str) -> list[Detections]:
    """Return what one runtime finds in each picture."""
    spec = read_model_spec(arguments.model)
    every = sorted(arguments.pictures.glob("*.png"))
    paths = [every[place] for place in np.linspace(0, len(every) - 1, PICTURES).round().astype(int)]
    options = RuntimeOptions(
        prefer="latency",
        precision=precision,
        max_batch=arguments.batch,
        calibration=calibration_from([arguments.calibration], spec),
        plans=PlanOptions(build=BuildOptions(optimisation_level=arguments.level)),
    )
    with open_runtime(runtime, arguments.model, spec, options) as opened:
        slot = opened.slots[0]
        postprocess = Postprocess(spec, open_head(spec), score_threshold=SCORE, iou_threshold=0.5, max_detections=300)
        return [detections for _, detections in detect(paths, slot, HostPreprocess(spec, slot.input), postprocess)]


def overlaps(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the IoU of every pair."""
    first = np.maximum(one[:, None, :2], other[None, :, :2])
    last = np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = np.clip(last - first, 0, None).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (one, other)]
    return shared / (areas[0][:, None] + areas[1][None] - shared)


def report(pair: str, expected: list[Detections], given: list[Detections]) -> None:
    """Match greedily, the best overlap first, and print what differs."""
    pixels, scores, least, alone = [], [], 1.0, [0, 0]
    for want, got in zip(expected, given, strict=True):
        matched = 0
        match = np.where(want.class_ids[:, None] == got.class_ids[None], overlaps(want.xyxy, got.xyxy), 0)
        while match.size and match.max() > LEAST_IOU:
            i, j = np.unravel_index(match.argmax(), match.shape)
            least, matched = min(least, match[i, j]), matched + 1
            pixels.append(float(np.abs(want.xyxy[i] - got.xyxy[j]).max()))
            scores.append(float(abs(want.scores[i] - got.scores[j])))
            match[i], match[:, j] = 0, 0
        alone = [alone[0] + len(want) - matched, alone[1] + len(got) - matched]
    print(
        f"{pair}: {len(pixels)} matched, largest difference {max(pixels):.2f} px, p99 {np.percentile(pixels, 99):.2f}, "
        f"median {np.median(pixels):.3f}; score {max(scores):.4f}; lowest IoU {least:.3f}; "
        f"only the CPU {alone[0]}, only it {alone[1]}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("pictures", type=Path, help="folder of *.png")
    parser.add_argument("pairs", nargs="+", metavar="RUNTIME:PRECISION")
    parser.add_argument("--level", type=int, help="optimisation level of TensorRT's builder")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--calibration", default="samples/street.mp4")
    arguments = parser.parse_args()
    expected = found(arguments, "cpu", "fp32")
    for pair in arguments.pairs:
        report(pair, expected, found(arguments, *pair.split(":")))


if __name__ == "__main__":
    main()
