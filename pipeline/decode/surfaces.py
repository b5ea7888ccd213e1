"""Pictures in a GPU's memory that outlive the decoder's own few: copied once there, given back by themselves."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engines.buffers import DeviceBuffer, PinnedBuffer
from engines.device import CudaStream, Gpu, checked, driver
from engines.enqueue import copy_on_device, record_event, wait_for_event
from engines.errors import DeviceMemoryError
from pipeline.frame import HostPlanes, Plane, Size

_MOST_SPARE = 512
"""Surfaces of one size that wait to be used again; more are freed, which waits for the whole device. There are never
more than were in use at one time."""


class SurfacePool:
    """The memory of pictures on one GPU, shared by all its streams. Thread-safe; closing twice is safe."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self._lock = threading.Lock()
        self._spare: dict[int, list[_Memory]] = {}
        self._ways: list[_WayDown] = []
        self._out = 0
        self._closed = False

    @property
    def in_use(self) -> int:
        """Pictures that somebody still holds."""
        return self._out

    def copy(
        self,
        cuda_stream: CudaStream,
        *,
        luma: int,
        chroma: int,
        pitch: int,
        size: Size,
        layout: Literal["nv12", "p010"],
    ) -> DevicePicture:
        """Enqueue a copy of a picture on ``cuda_stream``; return the copy, which is ready when the stream came so far.

        ``pitch`` is that of both planes. Raises DeviceMemoryError.
        """
        chroma_size = Size(-(-size.width // 2), -(-size.height // 2))
        above, below = pitch * size.height, pitch * chroma_size.height
        memory = self._take(above + below)
        pointer, stream = memory.buffer.tensor.pointer, cuda_stream.handle
        wait_for_event(stream, memory.ready_handle)  # a picture that was dropped at once may still be on its way there
        if chroma == luma + above:
            copy_on_device(pointer, luma, above + below, stream)
        else:
            copy_on_device(pointer, luma, above, stream)
            copy_on_device(pointer + above, chroma, below, stream)
        record_event(memory.ready_handle, stream)
        return DevicePicture(self, memory, size, chroma_size, layout, pitch)

    def close(self) -> None:
        """Free what nobody holds; what somebody holds is freed as it comes back."""
        with self._lock:
            self._closed = True
            ways, self._ways = self._ways, []
        self._free_spare()
        for way in ways:
            way.close()

    @contextmanager
    def way_down(self) -> Iterator[_WayDown]:
        """Lend what a picture comes down to the host by, to one thread at a time. Raises DeviceMemoryError."""
        self.gpu.use()
        with self._lock:
            way = self._ways.pop() if self._ways else None
        way = way or _WayDown(self.gpu)
        try:
            yield way
        finally:
            with self._lock:
                kept = not self._closed
                if kept:
                    self._ways.append(way)
            if not kept:
                way.close()

    def _take(self, nbytes: int) -> _Memory:
        with self._lock:
            self._out += 1
            held = self._spare.get(nbytes)
            if held:
                return held.pop()
        try:
            try:
                return _Memory(self.gpu, nbytes)
            except DeviceMemoryError:
                self._free_spare()  # of sizes that are played no more, perhaps
                return _Memory(self.gpu, nbytes)
        except BaseException:
            with self._lock:
                self._out -= 1
            raise

    def _free_spare(self) -> None:
        with self._lock:
            spare, self._spare = self._spare, {}
        for held in spare.values():
            for memory in held:
                memory.close()

    def give_back(self, memory: _Memory) -> None:
        """Take memory back that its picture no longer needs."""
        with self._lock:
            self._out -= 1
            held = self._spare.setdefault(memory.buffer.tensor.nbytes, [])
            if not self._closed and len(held) < _MOST_SPARE:
                held.append(memory)
                return
        memory.close()


class _Memory:
    """Room for one picture, and the event that says it is filled."""

    def __init__(self, gpu: Gpu, nbytes: int) -> None:
        self.buffer = DeviceBuffer(gpu, (nbytes,), np.uint8)
        self.ready: Any = checked(driver().cuEventCreate(driver().CUevent_flags.CU_EVENT_DISABLE_TIMING))
        self.ready_handle = int(self.ready)

    def close(self) -> None:
        driver().cuEventDestroy(self.ready)
        self.buffer.close()


class _WayDown:
    """A CUDA stream and pinned memory to copy to. Waiting for a copy leaves the driver to all other streams: one to
    ordinary memory would hold the driver's lock, and with it every other thread, until the GPU gets to it."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._stream = gpu.new_stream("download")
        self._pinned: PinnedBuffer | None = None

    def fetch(self, ready: int, pointer: int, pitch: int, rows: int, nbytes: int) -> NDArray[np.uint8]:
        """Return ``rows`` rows of ``nbytes`` bytes, ``pitch`` bytes apart, once event ``ready`` is there."""
        if self._pinned is None or self._pinned.array.size < rows * nbytes:
            if self._pinned is not None:
                self._pinned.close()
                self._pinned = None
            self._pinned = PinnedBuffer(self._gpu, (rows * nbytes,), np.uint8)
        wait_for_event(self._stream.handle, ready)
        copy = driver().CUDA_MEMCPY2D()
        copy.srcMemoryType = driver().CUmemorytype.CU_MEMORYTYPE_DEVICE
        copy.srcDevice, copy.srcPitch = pointer, pitch
        copy.dstMemoryType = driver().CUmemorytype.CU_MEMORYTYPE_HOST
        copy.dstHost, copy.dstPitch = self._pinned.address, nbytes
        copy.WidthInBytes, copy.Height = nbytes, rows
        checked(driver().cuMemcpy2DAsync(copy, self._stream.handle))
        self._stream.synchronise()
        return self._pinned.array[: rows * nbytes].reshape(rows, nbytes).copy()

    def close(self) -> None:
        self._stream.close()
        if self._pinned is not None:
            self._pinned.close()


class DevicePicture:
    """One picture on a GPU: ``DevicePlanes``. Its memory goes back to the pool with the last reference to it.

    Whoever enqueues work on it keeps it until that work is done.
    """

    __slots__ = ("_memory", "_pool", "chroma", "chroma_size", "gpu_index", "layout", "luma", "pitch", "size")

    def __init__(
        self,
        pool: SurfacePool,
        memory: _Memory,
        size: Size,
        chroma_size: Size,
        layout: Literal["nv12", "p010"],
        pitch: int,
    ) -> None:
        self._pool = pool
        self._memory = memory
        self.size = size
        self.chroma_size = chroma_size
        self.layout: Literal["nv12", "p010"] = layout
        self.pitch = pitch
        self.gpu_index = pool.gpu.index
        self.luma = memory.buffer.tensor.pointer
        self.chroma = self.luma + pitch * size.height

    def __del__(self) -> None:
        self._pool.give_back(self._memory)

    def wait_ready(self, cuda_stream: int) -> None:
        """Make ``cuda_stream`` wait until the picture is there; returns at once."""
        wait_for_event(cuda_stream, self._memory.ready_handle)

    def download(self) -> HostPlanes:
        """Copy the picture to the host, as planes of 8 bits. Waits for it."""
        height = self.size.height + self.chroma_size.height
        rows = self._fetch(self.luma, self.pitch, height, self.pitch)
        luma, chroma = _narrow(rows, self.layout, self.size.height)
        blue, red = chroma[:, 0 : 2 * self.chroma_size.width : 2], chroma[:, 1 : 2 * self.chroma_size.width : 2]
        return luma[:, : self.size.width], np.ascontiguousarray(blue), np.ascontiguousarray(red)

    def download_rows(self, step: int) -> Plane:
        """Copy every ``step``-th row of the luma to the host, as 8 bits. Waits for it."""
        count = -(-self.size.height // step)
        rows = self._fetch(self.luma, self.pitch * step, count, self.pitch)
        return _narrow(rows, self.layout, count)[0][:, : self.size.width]

    def _fetch(self, pointer: int, pitch: int, rows: int, nbytes: int) -> NDArray[np.uint8]:
        """Copy ``rows`` rows of ``nbytes`` bytes, ``pitch`` bytes apart, to the host."""
        with self._pool.way_down() as way:
            return way.fetch(self._memory.ready_handle, pointer, pitch, rows, nbytes)


def _narrow(rows: NDArray[np.uint8], layout: str, luma_rows: int) -> tuple[Plane, Plane]:
    """Return luma and interleaved chroma as 8 bits."""
    if layout == "nv12":
        return rows[:luma_rows], rows[luma_rows:]
    words: NDArray[np.uint16] = np.right_shift(rows.view(np.uint16), 6, dtype=np.uint16)
    return narrow_to_8_bits(words[:luma_rows], 1), narrow_to_8_bits(words[luma_rows:], 2)


def narrow_to_8_bits(words: NDArray[np.uint16], interleaved: int) -> Plane:
    """Return samples of 10 bits as FFmpeg narrows them: an ordered dither of 2 x 2, so that slopes stay smooth.

    ``interleaved``: how many planes' samples alternate in a row.
    """
    dither = np.array([[1, 2], [3, 0]], np.uint16).repeat(interleaved, axis=1)
    height, width = words.shape
    pattern = np.tile(dither, (height // 2 + 1, width // dither.shape[1] + 1))[:height, :width]
    narrow: Plane = np.minimum((words + pattern) >> 2, 255).astype(np.uint8)
    return narrow


def pitch_of(frame: Any, layout: str) -> int:
    """Return the bytes from one row of a picture that NVDEC decoded to the next."""
    told = frame.cuda()[0].__cuda_array_interface__
    width = int(frame.shape[1]) * (2 if layout == "p010" else 1)
    return max(width, int(told["strides"][0]) if told.get("strides") else 0)  # strides of 10 bits are of samples
