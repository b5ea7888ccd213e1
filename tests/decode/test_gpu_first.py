"""A stream for which the GPU has no memory left is decoded in software, and the others go on."""

from __future__ import annotations

import logging
import threading

import pytest

from engines.errors import DeviceMemoryError
from pipeline.decode.decoder import CorruptPacketError, open_decoder
from pipeline.decode.gpu_first import GpuFirst
from pipeline.source.source import SourceOptions, open_source
from tests.helpers.test_data import test_data


class FullGpu:
    """Opens decoders until its memory is full, which the first picture finds out."""

    closed = 0

    def open(self, info):
        return self

    def decode(self, packet):
        raise DeviceMemoryError("GPU 0 (NVIDIA TEST) has no 3 MiB left for a tensor [3133440].")

    def close(self):
        self.closed += 1


class NoDecoderLeft:
    """Has no memory for another decoder."""

    def open(self, info):
        raise DeviceMemoryError("the GPU is out of memory (CUDA_ERROR_OUT_OF_MEMORY, out of memory).")


@pytest.mark.parametrize(("gpu", "told"), [(FullGpu(), "no 3 MiB left"), (NoDecoderLeft(), "out of memory")])
def test_without_memory_for_it_a_stream_goes_on_in_software_and_says_so_once(gpu, told, caplog):
    gpu_first = GpuFirst(gpu, logging.getLogger("onpace.source.yard"))
    for _ in range(2):
        source = open_source(str(test_data() / "videos/restaurant_720p.mp4"), SourceOptions(), threading.Event())
        info = source.open()
        decoder = gpu_first.open(info, lambda info=info: open_decoder(info, 1))
        pictures = lost = 0
        for _ in range(30):
            try:
                pictures += len(decoder.decode(source.read()))
            except CorruptPacketError:
                lost += 1
        decoder.close()
        source.close()
        assert pictures >= 20
        assert lost <= 1
    said = [record.message for record in caplog.records if "decoding in software" in record.message]
    assert len(said) == 1 and told in said[0]
