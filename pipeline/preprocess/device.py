"""Preprocessing on the GPU: a whole batch into the slot's input tensor by one launch of the letterbox kernel.

The same result as ``host.py``, which is the definition, within 1/255 a channel. Pictures that a decoder left on the GPU
are read where they lie; pictures in host memory are uploaded first, planar as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.buffers import DeviceBuffer, DeviceTensor, PinnedBuffer
from engines.device import Gpu, cuda_errors
from engines.kernels.compiler import load_kernel
from engines.kernels.launch import launch
from engines.model_spec import ModelSpec, PixelSpec
from engines.runtime import DeviceSlot
from pipeline.frame import Colour, Frame, HostPlanes, Size
from pipeline.letterbox import Letterbox
from pipeline.preprocess.host import yuv_to_rgb

PICTURE = np.dtype(
    [
        ("planes", "<u8", 3),
        ("tables", "<u8", 4),
        ("pitches", "<i4", 2),
        ("layout", "<i4"),
        ("rotation", "<i4"),
        ("sizes", "<i4", 4),
        ("place", "<i4", 4),
        ("matrix", "<f4", 12),
        ("way_back", "<f4", 4),
        ("scores", "<f4", 2),
    ]
)
"""``struct Picture`` of letterbox.cu."""

LAYOUTS = {"planar": 0, "nv12": 1, "p010": 2}

_PIXELS = 4
_BLOCK = (32, 8)
_MOST_KINDS = 256
"""Kinds of pictures (size, colour, rotation, pitch) that are remembered: two or three are usual."""

_Kind = tuple[Size, Size, int, Colour, str, int, int]


def axis_table(source: int, target: int) -> NDArray[np.int32]:
    """Return for each of ``target`` places which samples of ``source`` it blends: see ``struct Picture``.

    Positions and weights as OpenCV's INTER_LINEAR has them: pixel centres at ``i + 0.5``, 11 bits of weight.
    """
    position = ((np.arange(target) + 0.5) * (1.0 / (target / source)) - 0.5).astype(np.float32)
    first = np.floor(position)
    weight = np.rint((position - first) * np.float32(2048))
    packed: NDArray[np.int32] = ((first + 1).astype(np.int32) << 12) | weight.astype(np.int32)
    return packed


def pixel_constants(pixels: PixelSpec) -> NDArray[np.float32]:
    """Return gain, bias and the normalised padding, float32 ``[9]``, in the model's channel order."""
    gain = (pixels.scale / np.array(pixels.deviation)).astype(np.float32)
    bias = (-np.array(pixels.mean) / np.array(pixels.deviation)).astype(np.float32)
    return np.concatenate([gain, bias, pixels.pad_value * gain + bias]).astype(np.float32)


def describe_picture(
    size: Size, chroma: Size, rotation: int, colour: Colour, geometry: Letterbox, order: str
) -> NDArray[Any]:
    """Return one ``PICTURE`` record without addresses, pitches and layout. ``size`` is that of the planes."""
    record = np.zeros(1, PICTURE)
    matrix = yuv_to_rgb(colour)
    record["rotation"] = rotation
    record["sizes"] = (*size, *chroma)
    record["place"] = (geometry.left, geometry.top, *geometry.inner)
    record["matrix"] = (matrix if order == "rgb" else matrix[::-1]).reshape(12)
    record["way_back"] = (geometry.scale_x, geometry.scale_y, *geometry.source)
    return record


class DevicePreprocess:
    """Prepares batches in one slot. Not thread-safe: one per slot. Closing twice is safe.

    ``add`` the frames row by row, ``upload`` and ``enqueue`` once; nothing of the batch may be added or freed until the
    slot's stream is through.
    """

    def __init__(self, spec: ModelSpec, slot: DeviceSlot) -> None:
        """Compile or load the kernel, take the memory. Raises RunError, RuntimeMissingError."""
        self._gpu: Gpu = slot.gpu
        self._cuda_stream = slot.cuda_stream
        self._input = slot.device_input
        self._target = Size(spec.input_width, spec.input_height)
        self._pixels = spec.pixels
        rows = self._input.shape[0]
        self._kernel = load_kernel(self._gpu, "letterbox", "letterbox")
        self._staged = PinnedBuffer(self._gpu, (rows,), PICTURE)
        self._records = self._staged.array
        self._addresses, self._scores = self._records["planes"], self._records["scores"]
        self._pictures = DeviceBuffer(self._gpu, (rows,), PICTURE)
        self._constants = DeviceBuffer(self._gpu, (9,), np.float32)
        self._tables: dict[tuple[int, int], tuple[DeviceBuffer, NDArray[np.int32]]] = {}
        self._kinds: dict[_Kind, tuple[NDArray[Any], Letterbox]] = {}
        self._uploads: list[_Upload | None] = [None] * rows
        self._kept = pixel_constants(spec.pixels)
        self._cuda_stream.upload(self._constants.tensor.pointer, self._kept.ctypes.data, self._kept.nbytes)
        self._cuda_stream.synchronise()

    @property
    def pictures(self) -> DeviceTensor:
        """``struct Picture`` of each row, on the device: heads find the way back to source pixels there."""
        return self._pictures.tensor

    def add(self, frame: Frame, row: int, scores: tuple[float, float]) -> Letterbox:
        """Say that ``frame`` is to go into ``row``; return where it will lie there. Uploads it if it is on the host.

        ``scores``: ``compared_scores`` of its stream, for the heads.

        Raises RunError for a picture on another GPU, ValueError for one that cannot be letterboxed.
        """
        planes = frame.planes
        if isinstance(planes, tuple):
            layout, chroma = "planar", Size(planes[1].shape[1], planes[1].shape[0])
            addresses, pitches = self._upload(planes, row)
        else:
            self._gpu.require(planes.gpu_index, "a decoded picture")
            planes.wait_ready(self._cuda_stream.handle)
            layout, chroma = planes.layout, planes.chroma_size
            addresses, pitches = (planes.luma, planes.chroma, 0), (planes.pitch, planes.pitch)
        kind = (frame.coded_size, chroma, frame.rotation, frame.colour, layout, *pitches)
        record, geometry = self._kinds.get(kind) or self._learn(kind, frame.size)
        self._records[row] = record
        self._addresses[row] = addresses
        self._scores[row] = scores
        return geometry

    def upload(self, count: int) -> None:
        """Enqueue the way to the device of what was said about the first ``count`` rows. Raises RunError."""
        self._cuda_stream.upload(self._pictures.tensor.pointer, self._staged.address, count * PICTURE.itemsize)

    def enqueue(self, count: int) -> None:
        """Enqueue the first ``count`` rows on the slot's stream, and return at once. Raises RunError."""
        pictures = self._pictures.tensor
        width, height = self._target
        grid = (-(-width // (_PIXELS * _BLOCK[0])), -(-height // _BLOCK[1]), count)
        half = np.int32(self._input.dtype == np.float16)
        arguments = (self._constants.tensor.pointer, self._input.pointer, np.int32(width), np.int32(height), half)
        with cuda_errors():
            launch(self._cuda_stream, self._kernel, grid, _BLOCK, pictures.pointer, *arguments)

    def close(self) -> None:
        """Free the memory. Nothing of it may be enqueued any more."""
        self._kinds.clear()
        tables, self._tables = self._tables, {}
        for table, _ in tables.values():
            table.close()
        for upload in self._uploads:
            if upload is not None:
                upload.close()
        self._uploads = []
        for buffer in (self._staged, self._pictures, self._constants):
            buffer.close()

    def _learn(self, kind: _Kind, size: Size) -> tuple[NDArray[Any], Letterbox]:
        """Prepare what every picture of this kind has in common."""
        if len(self._kinds) >= _MOST_KINDS:
            self._kinds.clear()
        coded, chroma, rotation, colour, layout, *pitches = kind
        geometry = Letterbox.fit(size, self._target, self._pixels.placement)
        record = describe_picture(coded, chroma, rotation, colour, geometry, self._pixels.order)
        width, height = geometry.inner[::-1] if rotation in (90, 270) else geometry.inner
        axes = ((coded.width, width), (coded.height, height), (chroma.width, width), (chroma.height, height))
        record["tables"] = [self._table(*axis) for axis in axes]
        record["layout"] = LAYOUTS[layout]
        record["pitches"] = pitches
        found = self._kinds[kind] = (record[0], geometry)
        return found

    def _table(self, source: int, target: int) -> int:
        """Return the device address of an axis's table. They are small, and stay: sizes are few."""
        found = self._tables.get((source, target))
        if found is None:
            values = axis_table(source, target)
            found = self._tables[source, target] = (DeviceBuffer(self._gpu, values.shape, np.int32), values)
            self._cuda_stream.upload(found[0].tensor.pointer, values.ctypes.data, values.nbytes)
        return found[0].tensor.pointer

    def _upload(self, planes: HostPlanes, row: int) -> tuple[tuple[int, int, int], tuple[int, int]]:
        """Enqueue the copy of three host planes; return their addresses there, and the pitches."""
        need = sum(plane.size for plane in planes)
        upload = self._uploads[row]
        if upload is None or upload.capacity < need:
            if upload is not None:
                self._uploads[row] = None  # also where there is no room for a larger one
                upload.close()
            upload = self._uploads[row] = _Upload(self._gpu, need)
        address, begin = upload.device.tensor.pointer, 0
        addresses = []
        for plane in planes:
            upload.host.array[begin : begin + plane.size].reshape(plane.shape)[...] = plane
            addresses.append(address + begin)
            begin += plane.size
        self._cuda_stream.upload(address, upload.host.address, need)
        luma, blue, red = addresses
        return (luma, blue, red), (planes[0].shape[1], planes[1].shape[1])


class _Upload:
    """One row's way from host memory to the device."""

    def __init__(self, gpu: Gpu, capacity: int) -> None:
        self.capacity = capacity
        self.device = DeviceBuffer(gpu, (capacity,), np.uint8)
        self.host = PinnedBuffer(gpu, (capacity,), np.uint8)

    def close(self) -> None:
        self.host.close()
        self.device.close()
