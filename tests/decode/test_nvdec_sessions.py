"""What becomes of NVDEC's decoders, told by stand-ins: no GPU is needed."""

from __future__ import annotations

import logging
import threading
from types import SimpleNamespace

import pytest

from engines.errors import DeviceLostError, DeviceMemoryError, RunError
from pipeline.decode.decoder import open_decoder
from pipeline.decode.gpu_first import GpuFirst
from pipeline.decode.nvdec import Nvdec, _Session
from pipeline.decode.nvdec_kind import Kind
from pipeline.frame import Size
from pipeline.source.source import SourceOptions, open_source
from tests.helpers.nvdec_double import NvdecDouble, PictureDouble
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


def test_a_decoder_that_comes_back_after_the_end_is_ended():
    nvdec = object.__new__(Nvdec)  # a whole one needs a GPU
    nvdec._lock, nvdec._idle, nvdec._closed = threading.Lock(), [], False
    nvdec.surfaces = SimpleNamespace(close=lambda: None)
    kind = Kind("H264", "nv12", 8, Size(64, 32), at_once=False)
    early, late = NvdecDouble().session(kind), NvdecDouble().session(kind)
    nvdec.give_back(early)
    assert not early.closed
    nvdec.close()
    nvdec.give_back(late)
    assert early.closed and late.closed


class Full(NvdecDouble):
    """Has room for one decoder, which holds a picture back."""

    def new_session(self, kind):
        if self.sessions:
            raise DeviceMemoryError("the GPU is out of memory.")
        return super().new_session(kind)


def play_to_second_sequence(nvdec):
    """Return the pictures of the first keyframe of the second size, and what came of it in software."""
    path = str(test_data() / "videos/resolution_change.h264")
    opened = open_source(path, SourceOptions(), threading.Event())
    info = opened.open()
    decoder = GpuFirst(nvdec, logging.getLogger("test")).open(info, lambda: open_decoder(info, 1))
    found = []
    for packet in iter(opened.read, None):
        found.append(decoder.decode(packet))
        if len(nvdec.sessions) > 1 or nvdec.sessions[0].closed:
            break
    decoder.close()
    opened.close()
    return found


def at_the_end(pitch):
    return lambda data: [] if data else [PictureDouble(pitch)]


def test_pictures_before_a_change_of_size_come_out_even_where_there_is_no_memory_for_it():
    found = play_to_second_sequence(Full(at_the_end(64)))
    assert [len(pictures) for pictures in found[:-1]] == [0] * (len(found) - 1)
    assert found[-1][0].planes["pitch"] == 64


def test_pictures_before_a_change_of_size_come_out_even_where_nvdec_does_not_take_what_follows():
    class Two(NvdecDouble):
        def new_session(self, kind):
            self.answer = fail if self.sessions else at_the_end(64)
            return super().new_session(kind)

    found = play_to_second_sequence(Two())
    assert [len(pictures) for pictures in found[:-1]] == [0] * (len(found) - 1)
    assert found[-1][0].planes["pitch"] == 64


def test_a_new_decoder_lays_out_its_rows_anew():
    pitches = iter([64, 128])

    class Two(NvdecDouble):
        def new_session(self, kind):
            pitch = next(pitches)
            self.answer = lambda data: [PictureDouble(pitch)]
            return super().new_session(kind)

    found = play_to_second_sequence(Two())
    assert found[-2][0].planes["pitch"] == 64
    assert found[-1][-1].planes["pitch"] == 128


def test_two_reasons_in_turn_are_said_once_each(caplog):
    gpu_first = GpuFirst(NvdecDouble(), logging.getLogger("onpace.source.yard"))
    for reason in ("no memory", "too large") * 3:
        gpu_first.refused(reason)
    assert [record.message.partition(": ")[2] for record in caplog.records] == ["no memory", "too large"]
