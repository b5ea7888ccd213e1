"""What the GPU's benchmark runs on, made on the spot: long clips of 1920x1080, and networks of YOLOv8's shape.

The networks have YOLOv8's layers, sizes and channels with ReLU and random weights: their speed is a detector's, their
boxes mean nothing. A dozen cells of the grid are lifted above the threshold, so that every picture has boxes.
"""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from pipeline.samples import find_sample
from tests.helpers.yolo_onnx import yolo_detector

WIDTH, HEIGHT, FPS = 1920, 1080, 30
CLIP_FRAMES = 240
_BITS_A_SECOND = 4_000_000
_ENCODERS = {"h264": ("libx264", {"preset": "veryfast", "bf": "0"}), "hevc": ("libx265", {"preset": "ultrafast"})}
_SHAPES: dict[str, dict[str, float]] = {
    "n": {"width": 0.25, "depth": 0.33},
    "s": {"width": 0.5, "depth": 0.33},
    "m": {"width": 0.75, "depth": 0.67, "widest": 768},
}
_PLANTED = 12


def long_clip(codec: str, folder: Path, repeats: int = 20) -> Path:
    """Write 240 pictures of the bundled clip, enlarged, 4 Mbit/s, one after the other ``repeats`` times; return it."""
    short, long = folder / f"short-{codec}.mp4", folder / f"{codec}-{repeats}.mp4"
    if not short.is_file():
        _encode(codec, short)
    if not long.is_file():
        _repeat(short, long, repeats)
    return long


def _encode(codec: str, path: Path) -> None:
    name, options = _ENCODERS[codec]
    random = np.random.default_rng(0)
    noise = [random.integers(-6, 7, (HEIGHT, WIDTH)).astype(np.int16) for _ in range(8)]
    with av.open(find_sample("street.mp4")) as source, av.open(str(path), "w") as target:
        stream = target.add_stream(name, rate=FPS, options={**options, "x265-params": "log-level=error:bframes=0"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.bit_rate, stream.codec_context.gop_size = _BITS_A_SECOND, 60
        for number, frame in enumerate(itertools.islice(source.decode(video=0), CLIP_FRAMES)):
            planes = frame.reformat(WIDTH, HEIGHT, "yuv420p").to_ndarray()
            # A sensor's noise: without it an enlarged picture is too easy for 4 Mbit/s.
            planes[:HEIGHT] = np.clip(planes[:HEIGHT] + noise[number % len(noise)], 16, 235)
            large = av.VideoFrame.from_ndarray(planes, "yuv420p")
            large.pts, large.time_base = number, Fraction(1, FPS)
            target.mux(stream.encode(large))
        target.mux(stream.encode(None))


def _repeat(short: Path, long: Path, repeats: int) -> None:
    """Copy the packets of ``short`` one after the other, ``repeats`` times, with times that go on."""
    with av.open(str(long), "w") as target:
        output = None
        for turn in range(repeats):
            with av.open(str(short)) as source:
                stream = source.streams.video[0]
                output = output or target.add_stream_from_template(stream)
                step = round(turn * CLIP_FRAMES / FPS / stream.time_base)
                for packet in source.demux(stream):
                    if packet.dts is None:
                        continue
                    packet.pts, packet.dts = packet.pts + step, packet.dts + step
                    packet.stream = output
                    target.mux(packet)


def yolov8_shaped(size: str, folder: Path) -> Path:
    """Write a network of YOLOv8's shape, "n", "s" or "m", 640x640, any batch, float32; return its path."""
    path = folder / f"yolov8{size}-relu.onnx"
    return path if path.is_file() else yolo_detector(path, planted=_PLANTED, **_SHAPES[size])
