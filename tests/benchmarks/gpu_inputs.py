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
import onnx
from onnx import TensorProto, helper, numpy_helper

from pipeline.samples import find_sample

WIDTH, HEIGHT, FPS = 1920, 1080, 30
CLIP_FRAMES = 240
_BITS_A_SECOND = 4_000_000
_ENCODERS = {"h264": ("libx264", {"preset": "veryfast", "bf": "0"}), "hevc": ("libx265", {"preset": "ultrafast"})}
_INPUT = 640
_CLASSES = 80
_BINS = 16
_WIDTHS = {"n": 0.25, "s": 0.5}
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


class _Layers:
    """Writes YOLOv8 layer by layer."""

    def __init__(self, width: float) -> None:
        self._width = width
        self._random = np.random.default_rng(0)
        self._count = itertools.count()
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self.channels: dict[str, int] = {"images": 3}

    def scaled(self, channels: int) -> int:
        return int(-(-channels * self._width // 8) * 8)

    def node(self, kind: str, inputs: list[str], channels: int, **attributes: object) -> str:
        output = f"t{next(self._count)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        self.channels[output] = channels
        return output

    def constant(self, values: np.ndarray) -> str:
        name = f"w{next(self._count)}"
        self.weights[name] = values
        return name

    def conv(self, x: str, channels: int, kernel: int = 1, stride: int = 1, *, relu: bool = True) -> str:
        before = self.channels[x]
        shape = (channels, before, kernel, kernel)
        gain = np.sqrt(1.7 / (before * kernel * kernel))
        weight = self.constant((self._random.standard_normal(shape) * gain).astype(np.float32))
        bias = self.constant((self._random.standard_normal(channels) * 0.05).astype(np.float32))
        made = self.node(
            "Conv", [x, weight, bias], channels, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[kernel // 2] * 4
        )
        return self.node("Relu", [made], channels) if relu else made

    def concat(self, parts: list[str]) -> str:
        return self.node("Concat", parts, sum(self.channels[part] for part in parts), axis=1)

    def c2f(self, x: str, channels: int, depth: int, *, shortcut: bool) -> str:
        half = channels // 2
        whole = self.conv(x, 2 * half)
        left, right = f"t{next(self._count)}", f"t{next(self._count)}"
        self.nodes.append(helper.make_node("Split", [whole, self.halves(half)], [left, right], axis=1))
        self.channels[left] = self.channels[right] = half
        parts = [left, right]
        for _ in range(depth):
            inner = self.conv(self.conv(parts[-1], half, 3), half, 3)
            parts.append(self.node("Add", [parts[-1], inner], half) if shortcut else inner)
        return self.conv(self.concat(parts), channels)

    def halves(self, half: int) -> str:
        return self.constant(np.array([half, half], np.int64))

    def sppf(self, x: str) -> str:
        channels = self.channels[x]
        parts = [self.conv(x, channels // 2)]
        for _ in range(3):
            pooled = self.node(
                "MaxPool", [parts[-1]], channels // 2, kernel_shape=[5, 5], strides=[1, 1], pads=[2, 2, 2, 2]
            )
            parts.append(pooled)
        return self.conv(self.concat(parts), channels)

    def enlarge(self, x: str) -> str:
        scales = self.constant(np.array([1, 1, 2, 2], np.float32))
        return self.node("Resize", [x, "", scales], self.channels[x], mode="nearest", nearest_mode="floor",
                         coordinate_transformation_mode="asymmetric")  # fmt: skip

    def backbone(self) -> tuple[str, str, str]:
        x = self.conv(self.conv("images", self.scaled(64), 3, 2), self.scaled(128), 3, 2)
        x = self.c2f(x, self.scaled(128), 1, shortcut=True)
        fine = self.c2f(self.conv(x, self.scaled(256), 3, 2), self.scaled(256), 2, shortcut=True)
        middle = self.c2f(self.conv(fine, self.scaled(512), 3, 2), self.scaled(512), 2, shortcut=True)
        coarse = self.c2f(self.conv(middle, self.scaled(1024), 3, 2), self.scaled(1024), 1, shortcut=True)
        return fine, middle, self.sppf(coarse)

    def neck(self, fine: str, middle: str, coarse: str) -> tuple[str, str, str]:
        up = self.c2f(self.concat([self.enlarge(coarse), middle]), self.scaled(512), 1, shortcut=False)
        out8 = self.c2f(self.concat([self.enlarge(up), fine]), self.scaled(256), 1, shortcut=False)
        down = self.conv(out8, self.scaled(256), 3, 2)
        out16 = self.c2f(self.concat([down, up]), self.scaled(512), 1, shortcut=False)
        down = self.conv(out16, self.scaled(512), 3, 2)
        out32 = self.c2f(self.concat([down, coarse]), self.scaled(1024), 1, shortcut=False)
        return out8, out16, out32

    def reshaped(self, x: str, *shape: int) -> str:
        return self.node("Reshape", [x, self.constant(np.array(shape, np.int64))], self.channels[x])

    def head(self, levels: tuple[str, str, str]) -> tuple[str, str]:
        """Return side distributions ``[N, 64, A]`` and class logits ``[N, 80, A]``."""
        wide = max(16, self.scaled(256) // 4, 4 * _BINS)
        deep = max(self.scaled(256), min(_CLASSES, 100))
        sides, logits = [], []
        for level in levels:
            x = self.conv(self.conv(self.conv(level, wide, 3), wide, 3), 4 * _BINS, relu=False)
            sides.append(self.reshaped(x, 0, 4 * _BINS, -1))
            x = self.conv(self.conv(self.conv(level, deep, 3), deep, 3), _CLASSES, relu=False)
            logits.append(self.reshaped(x, 0, _CLASSES, -1))
        join = [self.node("Concat", parts, self.channels[parts[0]], axis=2) for parts in (sides, logits)]
        return join[0], join[1]

    def boxes(self, sides: str) -> str:
        """Return centre and size in pixels, ``[N, 4, A]``, of distributions over distances."""
        grid = [(cells, _INPUT // cells) for cells in (80, 40, 20)]
        centres = np.concatenate([np.indices((c, c))[::-1].reshape(2, -1) + 0.5 for c, _ in grid], 1)
        strides = np.concatenate([np.full(c * c, s) for c, s in grid]).astype(np.float32)
        count = len(strides)
        x = self.node("Transpose", [self.reshaped(sides, 0, 4, _BINS, count)], _BINS, perm=[0, 2, 1, 3])
        likely = self.node("Softmax", [x], _BINS, axis=1)
        bins = self.constant(np.arange(_BINS, dtype=np.float32).reshape(1, _BINS, 1, 1))
        mean = self.reshaped(self.node("Conv", [likely, bins], 1, kernel_shape=[1, 1]), 0, 4, count)
        pair = self.constant(np.array([2, 2], np.int64))
        self.nodes.append(helper.make_node("Split", [mean, pair], ["near", "far"], axis=1))
        middle = self.constant(centres[None].astype(np.float32))
        first = self.node("Sub", [middle, "near"], 2)
        last = self.node("Add", [middle, "far"], 2)
        centre = self.node("Mul", [self.node("Add", [first, last], 2), self.constant(np.float32(0.5))], 2)
        both = self.node("Concat", [centre, self.node("Sub", [last, first], 2)], 4, axis=1)
        return self.node("Mul", [both, self.constant(strides[None, None])], 4)

    def scores(self, logits: str) -> str:
        """Return scores ``[N, 80, A]``: all far below any threshold, but for a dozen planted cells."""
        count = 8400
        lift = np.full((1, _CLASSES, count), -12.0, np.float32)
        cells = np.linspace(6400, count - 1, _PLANTED).astype(int)
        lift[0, np.arange(_PLANTED) % _CLASSES, cells] = 12.0
        scaled = self.node("Mul", [logits, self.constant(np.float32(0.1))], _CLASSES)
        return self.node("Sigmoid", [self.node("Add", [scaled, self.constant(lift)], _CLASSES)], _CLASSES)


def yolov8_shaped(size: str, folder: Path) -> Path:
    """Write a network of YOLOv8's shape, "n" or "s", 640x640, any batch, float32; return its path."""
    path = folder / f"yolov8{size}-relu.onnx"
    if path.is_file():
        return path
    layers = _Layers(_WIDTHS[size])
    sides, logits = layers.head(layers.neck(*layers.backbone()))
    output = helper.make_node("Concat", [layers.boxes(sides), layers.scores(logits)], ["output0"], axis=1)
    graph = helper.make_graph(
        [*layers.nodes, output],
        path.stem,
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, _INPUT, _INPUT])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, ["batch", 4 + _CLASSES, 8400])],
        [numpy_helper.from_array(values, name) for name, values in layers.weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    names = {index: f"c{index}" for index in range(_CLASSES)}
    helper.set_model_props(
        model, {"task": "detect", "stride": "32", "imgsz": f"[{_INPUT}, {_INPUT}]", "names": str(names)}
    )
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))
    return path
