"""One measurement a process: the pipeline, or one of the things that it is compared with. Prints one line of JSON.

Run by ``bench_pipeline``; every figure is of steady state, after a warm-up that is not counted.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import threading
import time
from pathlib import Path

import numpy as np

SCORE_THRESHOLD = 0.25
IOU_THRESHOLD = 0.5


def counted(step, seconds: float, warm_up_seconds: float = 1.0) -> float:
    """Call ``step`` for a while; return calls a second."""
    until = time.monotonic() + warm_up_seconds
    while time.monotonic() < until:
        step()
    started, calls = time.monotonic(), 0
    while time.monotonic() - started < seconds:
        step()
        calls += 1
    return calls / (time.monotonic() - started)


def session_of(model: str, threads: int):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def prepared(session) -> dict[str, np.ndarray]:
    tensor = session.get_inputs()[0]
    shape = [1 if not isinstance(size, int) else size for size in tensor.shape]
    dtype = np.float16 if "float16" in tensor.type else np.float32
    return {tensor.name: np.random.default_rng(0).random(shape).astype(dtype)}


def bare_wide(model: str, seconds: float, **_) -> float:
    """One session with two threads on a prepared tensor."""
    session = session_of(model, 2)
    feed = prepared(session)
    return counted(lambda: session.run(None, feed), seconds)


def bare_narrow(model: str, seconds: float, **_) -> float:
    """One session with one thread, run from two threads at once on prepared tensors."""
    session = session_of(model, 1)
    rates: list[float] = []

    def work() -> None:
        feed = prepared(session)
        rates.append(counted(lambda: session.run(None, feed), seconds))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(rates)


def bare_decode(video: str, seconds: float, threads: int = 1, **_) -> float:
    """PyAV to YUV planes, and nothing else."""
    import av

    def frames():
        while True:
            with av.open(video) as container:
                stream = container.streams.video[0]
                stream.codec_context.thread_count = threads
                stream.thread_type = "SLICE" if threads == 1 else "FRAME"
                yield from container.decode(stream)

    pictures = frames()

    def step() -> None:
        for plane in next(pictures).planes:
            np.frombuffer(plane, np.uint8)

    return counted(step, seconds)


def script(video: str, model: str, seconds: float, **_) -> float:
    """What every user writes first: VideoCapture, letterbox, session.run, NMS, JSON."""
    import cv2
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    tensor = session.get_inputs()[0]
    size = tensor.shape[2]
    capture = cv2.VideoCapture(video)

    def step() -> None:
        nonlocal capture
        ok, picture = capture.read()
        if not ok:
            capture = cv2.VideoCapture(video)
            ok, picture = capture.read()
        scale = min(size / picture.shape[1], size / picture.shape[0])
        width, height = round(picture.shape[1] * scale), round(picture.shape[0] * scale)
        left, top = (size - width) // 2, (size - height) // 2
        canvas = np.full((size, size, 3), 114, np.uint8)
        canvas[top : top + height, left : left + width] = cv2.resize(picture, (width, height))
        blob = np.ascontiguousarray(canvas[:, :, ::-1].transpose(2, 0, 1)[None]).astype(np.float32) / 255
        rows = session.run(None, {tensor.name: blob})[0][0].T
        scores = rows[:, 4:].max(1)
        keep = scores > SCORE_THRESHOLD
        rows, scores = rows[keep], scores[keep]
        corners = np.concatenate([rows[:, :2] - rows[:, 2:4] / 2, rows[:, 2:4]], 1)
        chosen = greedy_nms(corners, scores)
        names = rows[:, 4:].argmax(1)
        json.dumps(
            [
                {
                    "box": ((corners[i] - [left, top, 0, 0]) / scale).tolist(),
                    "score": float(scores[i]),
                    "class": int(names[i]),
                }
                for i in chosen
            ]
        )

    return counted(step, seconds)


def greedy_nms(boxes: np.ndarray, scores: np.ndarray) -> list[int]:
    """The usual loop over ``x, y, w, h`` boxes."""
    order = scores.argsort()[::-1]
    x2, y2, area = boxes[:, 0] + boxes[:, 2], boxes[:, 1] + boxes[:, 3], boxes[:, 2] * boxes[:, 3]
    kept = []
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(int(best))
        width = np.minimum(x2[best], x2[rest]) - np.maximum(boxes[best, 0], boxes[rest, 0])
        height = np.minimum(y2[best], y2[rest]) - np.maximum(boxes[best, 1], boxes[rest, 1])
        shared = np.clip(width, 0, None) * np.clip(height, 0, None)
        order = rest[shared / (area[best] + area[rest] - shared) <= IOU_THRESHOLD]
    return kept


def pipeline(
    video: str, model: str, seconds: float, streams: int, tracker: str, runtime: str, precision: str | None, **_
) -> float:
    """The product: file in, detections out over ZeroMQ, as ``onpace run`` does it."""
    from pipeline.config.load import config_from_mapping
    from pipeline.pipeline import Pipeline
    from pipeline.process import prepare_process

    prepare_process()
    config = config_from_mapping(
        {
            "streams": [{"id": f"s{n}", "url": video, "loop": True} for n in range(streams)],
            "infer": {"model": model, "runtime": runtime, "precision": precision},
            "track": {"tracker": tracker},
            "publish": {"sinks": [f"zmq:ipc:///tmp/onpace-bench-{time.monotonic_ns()}"]},
        },
        origin="benchmark",
    )
    with Pipeline(config) as running:
        running.start()

        def published() -> int:
            return sum(status.ledger.published for status in running.status())

        while published() < 5 * streams:
            time.sleep(0.05)
        time.sleep(1.0)
        count, started = published(), time.monotonic()
        time.sleep(seconds)
        return (published() - count) / (time.monotonic() - started)


KINDS = {kind.__name__: kind for kind in (bare_wide, bare_narrow, bare_decode, script, pipeline)}


def main() -> None:
    """Measure one thing and print it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--video", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tracker", default="off")
    parser.add_argument("--runtime", default="cpu")
    parser.add_argument("--precision", help="what the model is turned into; else as its file is")
    arguments = {
        key: str(value) if isinstance(value, Path) else value for key, value in vars(parser.parse_args()).items()
    }
    fps = KINDS[arguments.pop("kind")](**arguments)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    json.dump({"fps": fps, "peak_rss_mb": peak_mb}, sys.stdout)


if __name__ == "__main__":
    main()
