"""The letterbox kernel on the GPU makes of NVDEC's pictures what the host makes of the same planes."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace

import numpy as np
import pytest

from engines.buffers import DeviceBuffer, PinnedBuffer
from pipeline.decode.decoder import open_decoder
from pipeline.decode.gpu_first import GpuFirst
from pipeline.preprocess.device import DevicePreprocess
from pipeline.source.source import SourceOptions, open_source
from tests.helpers.street import frames_of
from tests.helpers.test_data import test_data
from tests.preprocess.test_device import LEVEL, ROUNDING, on_host
from tests.preprocess.test_host import spec_of

FRAMES = 4


class Place:
    """What preprocessing needs of a slot: a CUDA stream, and an input tensor full of rubbish."""

    def __init__(self, gpu, shape, dtype) -> None:
        self.gpu = gpu
        self.cuda_stream = gpu.new_stream("test")
        self._buffer = DeviceBuffer(gpu, shape, dtype)
        self.device_input = self._buffer.tensor
        self._seen = PinnedBuffer(gpu, shape, dtype)
        self._seen.array[...] = np.nan
        self.cuda_stream.upload(self.device_input.pointer, self._seen.address, self.device_input.nbytes)
        self.cuda_stream.synchronise()

    def read(self):
        """Return the tensor, once the stream is through."""
        self.cuda_stream.download(self._seen.address, self.device_input.pointer, self.device_input.nbytes)
        self.cuda_stream.synchronise()
        return self._seen.array.astype(np.float32)

    def close(self) -> None:
        self.cuda_stream.synchronise()
        for held in (self._seen, self._buffer, self.cuda_stream):
            held.close()


def decoded(nvdec, name):
    """Return the first pictures of a video as frames on the GPU."""
    source = open_source(str(test_data() / "videos" / name), SourceOptions(), threading.Event())
    pictures = []
    try:
        info = source.open()
        decoder = GpuFirst(nvdec, logging.getLogger("test")).open(info, lambda: open_decoder(info, 1))
        try:
            while len(pictures) < FRAMES:
                packet = source.read()
                assert packet is not None
                pictures += decoder.decode(packet)
        finally:
            decoder.close()
    finally:
        source.close()
    return frames_of(pictures[:FRAMES])


def prepared_on_gpu(spec, frames, gpu, dtype):
    place = Place(gpu, (len(frames), 3, spec.input_height, spec.input_width), dtype)
    preprocess = DevicePreprocess(spec, place)
    try:
        for row, frame in enumerate(frames):
            preprocess.add(frame, row, (0.25, 0.25))
        preprocess.upload(len(frames))
        preprocess.enqueue(len(frames))
        return place.read()
    finally:
        place.cuda_stream.synchronise()
        preprocess.close()
        place.close()


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    ("name", "layout", "rotation"),
    [
        ("restaurant_720p.mp4", "nv12", 0),
        ("park_hevc_10bit.mkv", "p010", 0),
        ("rotation_90.mp4", "nv12", 90),
    ],
)
def test_real_pictures_are_prepared_as_on_the_host(nvdec, name, layout, rotation, dtype):
    spec = spec_of(640, 640)
    frames = decoded(nvdec, name)
    assert {frame.planes.layout for frame in frames} == {layout}
    assert {frame.rotation % 180 for frame in frames} == {rotation % 180}
    fetched = [replace(frame, planes=frame.on_host()) for frame in frames]
    expected = on_host(spec, fetched, dtype).astype(np.float32)
    for given in (frames, fetched):  # read where NVDEC left them, and uploaded
        found = prepared_on_gpu(spec, given, nvdec.gpu, dtype)
        apart = np.abs(found - expected)
        assert apart.max() <= LEVEL * 1.001 + ROUNDING[dtype]
        assert (apart > LEVEL / 2).mean() < 0.06
