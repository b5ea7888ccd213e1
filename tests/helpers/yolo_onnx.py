"""A detector of the shape of YOLOv8 (three levels, C2f blocks, distribution boxes) with made-up weights.

ReLU stands for SiLU: TensorRT 8.6 compiles some thirty kernels for every SiLU, which takes minutes. Layers and widths
are the real ones, so what it takes to run it is; what it finds means nothing.

    python -m tests.helpers.yolo_onnx s.onnx --width 0.5 --depth 0.33
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASSES = 80
BINS = 16
_LOGIT_SCALE, _LIFT = 0.1, 12.0
STRIDES = (8, 16, 32)


def yolo_detector(
    path: Path,
    *,
    width: float = 0.5,
    depth: float = 0.33,
    size: tuple[int, int] = (640, 640),
    silu: bool = False,
    planted: int = 0,
    widest: int = 1024,
) -> Path:
    """Write the detector to ``path``; ``width`` and ``depth`` 0.25 and 0.33 are n, 0.5 and 0.33 are s.

    0.75 and 0.67 are m, whose ``widest`` layer (before ``width``) is 768.

    ``planted``: cells of the coarser grids that are an object in every picture, while no other is.
    """
    graph = _Graph(size, silu, planted)
    channels = [round(width * count) for count in (64, 128, 256, 512, widest)]
    repeats = [max(1, round(depth * count)) for count in (3, 6, 6, 3)]
    tensor, levels = graph.conv("images", 3, channels[0], stride=2), []
    for number, count in enumerate(repeats):
        tensor = graph.conv(tensor, channels[number], channels[number + 1], stride=2)
        tensor = graph.c2f(tensor, channels[number + 1], channels[number + 1], count, shortcut=True)
        levels.append((tensor, channels[number + 1]))
    (third, wide3), (fourth, wide4), (fifth, wide5) = levels[1:]
    fifth = graph.pyramid_pool(fifth, wide5)
    count = max(1, round(depth * 3))
    up4 = graph.c2f(graph.join(graph.up(fifth), fourth), wide5 + wide4, wide4, count)
    out3 = graph.c2f(graph.join(graph.up(up4), third), wide4 + wide3, wide3, count)
    down4 = graph.join(graph.conv(out3, wide3, wide3, stride=2), up4)
    out4 = graph.c2f(down4, wide3 + wide4, wide4, count)
    down5 = graph.join(graph.conv(out4, wide4, wide4, stride=2), fifth)
    out5 = graph.c2f(down5, wide4 + wide5, wide5, count)
    graph.detect([(out3, wide3), (out4, wide4), (out5, wide5)])
    return graph.save(path)


class _Graph:
    def __init__(self, size: tuple[int, int], silu: bool, planted: int) -> None:
        self.size = size
        self._silu = silu
        self._planted = planted
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(5)

    def add(self, op: str, inputs: list[str], output: str = "", **attributes: object) -> str:
        output = output or f"{op.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, inputs, [output], name=f"/{output}", **attributes))
        return output

    def constant(self, values: np.ndarray) -> str:
        self._constants.append(numpy_helper.from_array(values, f"constant_{len(self._constants)}"))
        return self._constants[-1].name

    def conv(
        self, tensor: str, fan_in: int, fan_out: int, *, kernel: int = 3, stride: int = 1, plain: bool = False
    ) -> str:
        weights = self._random.standard_normal((fan_out, fan_in, kernel, kernel)).astype(np.float32)
        weights *= np.sqrt(2 / (fan_in * kernel**2))  # keeps the size of activations through ReLU
        inputs = [tensor, self.constant(weights), self.constant(np.zeros(fan_out, np.float32))]
        made = self.add("Conv", inputs, strides=[stride] * 2, pads=[kernel // 2] * 4, kernel_shape=[kernel] * 2)
        if plain:
            return made
        return self.add("Mul", [made, self.add("Sigmoid", [made])]) if self._silu else self.add("Relu", [made])

    def join(self, *tensors: str) -> str:
        return self.add("Concat", list(tensors), axis=1)

    def up(self, tensor: str) -> str:
        scales = self.constant(np.array([1, 1, 2, 2], np.float32))
        return self.add(
            "Resize", [tensor, "", scales], mode="nearest", coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )  # fmt: skip

    def c2f(self, tensor: str, fan_in: int, fan_out: int, count: int, *, shortcut: bool = False) -> str:
        half = fan_out // 2
        both = self.conv(tensor, fan_in, fan_out, kernel=1)
        parts = [self.slice(both, 0, half), self.slice(both, half, fan_out)]
        for _ in range(count):
            inner = self.conv(self.conv(parts[-1], half, half), half, half)
            parts.append(self.add("Add", [parts[-1], inner]) if shortcut else inner)
        return self.conv(self.join(*parts), (2 + count) * half, fan_out, kernel=1)

    def slice(self, tensor: str, first: int, last: int, axis: int = 1) -> str:
        bounds = [self.constant(np.array([value], np.int64)) for value in (first, last, axis)]
        return self.add("Slice", [tensor, *bounds])

    def pyramid_pool(self, tensor: str, channels: int) -> str:
        parts = [self.conv(tensor, channels, channels // 2, kernel=1)]
        for _ in range(3):
            parts.append(self.add("MaxPool", [parts[-1]], kernel_shape=[5, 5], pads=[2] * 4, strides=[1, 1]))
        return self.conv(self.join(*parts), 2 * channels, channels, kernel=1)

    def detect(self, levels: list[tuple[str, int]]) -> None:
        """Boxes as distributions over distances to the cell's centre, scores through a sigmoid."""
        inner_box, inner_class = max(16, levels[0][1] // 4, 4 * BINS), max(levels[0][1], min(CLASSES, 100))
        joined, centres, strides = [], [], []
        for (tensor, channels), stride in zip(levels, STRIDES, strict=True):
            box = self.conv(self.conv(tensor, channels, inner_box), inner_box, inner_box)
            label = self.conv(self.conv(tensor, channels, inner_class), inner_class, inner_class)
            both = self.join(
                self.conv(box, inner_box, 4 * BINS, kernel=1, plain=True),
                self.conv(label, inner_class, CLASSES, kernel=1, plain=True),
            )
            shape = self.constant(np.array([0, 4 * BINS + CLASSES, -1], np.int64))
            joined.append(self.add("Reshape", [both, shape]))
            rows, columns = self.size[1] // stride, self.size[0] // stride
            y, x = np.mgrid[:rows, :columns] + 0.5
            centres.append(np.stack([x.ravel(), y.ravel()]))
            strides.append(np.full(rows * columns, stride))
        every = self.add("Concat", joined, axis=2)
        shape = self.constant(np.array([0, 4, BINS, -1], np.int64))
        shares = self.add("Softmax", [self.add("Reshape", [self.slice(every, 0, 4 * BINS), shape])], axis=2)
        bins = self.constant(np.arange(BINS, dtype=np.float32).reshape(1, 1, BINS, 1))
        axes = self.constant(np.array([2], np.int64))
        sides = self.add("ReduceSum", [self.add("Mul", [shares, bins]), axes], keepdims=0)
        centre = self.constant(np.concatenate(centres, axis=1)[None].astype(np.float32))
        first = self.add("Sub", [centre, self.slice(sides, 0, 2)])
        last = self.add("Add", [centre, self.slice(sides, 2, 4)])
        middle = self.add("Div", [self.add("Add", [first, last]), self.constant(np.array(2, np.float32))])
        boxes = self.add("Concat", [middle, self.add("Sub", [last, first])], axis=1)
        pixels = self.add("Mul", [boxes, self.constant(np.concatenate(strides).astype(np.float32))])
        logits = self.slice(every, 4 * BINS, 4 * BINS + CLASSES)
        scores = self.add("Sigmoid", [self.planted(logits, len(np.concatenate(strides))) if self._planted else logits])
        self.add("Concat", [pixels, scores], "output0", axis=1)

    def planted(self, logits: str, cells: int) -> str:
        """Lift a few cells far above any threshold, and push all others below."""
        lift = np.full((1, CLASSES, cells), -_LIFT, np.float32)
        chosen = np.linspace(cells * 0.77, cells - 1, self._planted).astype(int)
        lift[0, np.arange(self._planted) % CLASSES, chosen] = _LIFT
        scaled = self.add("Mul", [logits, self.constant(np.array(_LOGIT_SCALE, np.float32))])
        return self.add("Add", [scaled, self.constant(lift)])

    def save(self, path: Path) -> Path:
        cells = sum((self.size[0] // stride) * (self.size[1] // stride) for stride in STRIDES)
        width, height = self.size
        graph = helper.make_graph(
            self._nodes,
            "yolo",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, height, width])],
            [helper.make_tensor_value_info("output0", TensorProto.FLOAT, ["batch", 4 + CLASSES, cells])],
            self._constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        helper.set_model_props(model, {"names": str({index: f"thing{index}" for index in range(CLASSES)})})
        onnx.checker.check_model(model)
        onnx.save(model, str(path))
        return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--width", type=float, default=0.5)
    parser.add_argument("--depth", type=float, default=0.33)
    parser.add_argument("--size", type=int, default=640)
    parser.add_argument("--silu", action="store_true")
    arguments = parser.parse_args()
    size = (arguments.size, arguments.size)
    yolo_detector(arguments.out, width=arguments.width, depth=arguments.depth, size=size, silu=arguments.silu)


if __name__ == "__main__":
    main()
