"""What becomes of NVDEC's decoders, told by stand-ins: no GPU is needed."""

from __future__ import annotations

import logging
import threading
from types import SimpleNamespace

import pytest

from engines.errors import DeviceLostError, RunError
from pipeline.decode.decoder import open_decoder
from pipeline.decode.gpu_first import GpuFirst
from pipeline.decode.nvdec import _Session
from pipeline.source.source import SourceOptions, open_source
from tests.helpers.nvdec_double import NvdecDouble
from tests.helpers.test_data import test_data

LOST = DeviceLostError("the GPU is lost to this process (CUDA_ERROR_ECC_UNCORRECTABLE).")


@pytest.fixture
def source():
    opened = open_source(str(test_data() / "videos/car_mpegts.ts"), SourceOptions(), threading.Event())
    yield opened
    opened.close()


def fail(data: bytes) -> list:
    raise RuntimeError("cuvidDecodePicture: CUDA_ERROR_UNKNOWN")


def test_a_lost_gpu_is_no_reason_to_decode_in_software(source, caplog):
    nvdec = NvdecDouble()
    info = source.open()
    decoder = GpuFirst(nvdec, logging.getLogger("onpace.source.yard")).open(info, lambda: open_decoder(info, 1))
    (session,) = nvdec.sessions
    decoder.decode(source.read())
    session.answer, session.loss = fail, LOST
    with pytest.raises(DeviceLostError, match="ECC"):
        decoder.decode(source.read())
    with pytest.raises(DeviceLostError, match="ECC"):
        decoder.drain()
    assert not session.closed
    assert "decoding in software" not in caplog.text


class CudaStream:
    """Notes whether the decoder was still there as it was waited for."""

    def __init__(self, error: RunError | None = None) -> None:
        self.error = error
        self.session: _Session | None = None
        self.waited = self.closed = False

    def synchronise(self) -> None:
        assert self.session is not None and self.session.decoder is not None
        self.waited = True
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("error", "ended"), [(None, True), (RunError("CUDA failed: CUDA_ERROR_UNKNOWN."), True), (LOST, False)]
)
def test_a_decoder_ends_after_the_copies_of_its_pictures_and_never_on_a_lost_gpu(error, ended):
    session = object.__new__(_Session)  # a whole one needs a GPU
    session.cuda_stream = stream = CudaStream(error)
    session.decoder, stream.session = SimpleNamespace(), session
    session.close()
    assert stream.waited
    assert (session.decoder is None, stream.closed) == (ended, ended)
