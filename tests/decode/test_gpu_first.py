"""A stream for which the GPU has no memory left is decoded in software, and the others go on."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from engines import cores
from engines.cores import keep_to
from engines.device import Gpu
from engines.errors import DeviceMemoryError
from pipeline.bounded_queue import BoundedQueue
from pipeline.config.load import config_from_mapping
from pipeline.decode.decoder import CorruptPacketError, open_decoder
from pipeline.decode.gpu_first import GpuFirst
from pipeline.decode.nvdec import Nvdec
from pipeline.decode.nvdec_kind import NvdecRefusedError
from pipeline.keepup.load import BusyClock
from pipeline.keepup.meter import StreamMeter
from pipeline.keepup.settings import KeepupSettings
from pipeline.plan import plan_stream
from pipeline.source.source import SourceOptions, open_source
from pipeline.supervisor import StreamSupervisor
from tests.helpers.nvdec_double import NvdecDouble
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


def silent_nvdec():
    """NVDEC whose library has no memory left for the context in which it would ask: what it said on an H100."""

    def fail(**_):
        raise RuntimeError(
            "PyNvDecoderCaps : \nError code : 1\nError Type : CUDA driver API error CUDA_ERROR_INVALID_VALUE"
        )

    nvdec = object.__new__(Nvdec)  # a whole one needs a GPU
    nvdec.gpu = Gpu(0, "NVIDIA TEST", (9, 0), 1 << 30)
    nvdec._library = SimpleNamespace(
        GetDecoderCaps=fail, cudaVideoCodec=SimpleNamespace(H264=4), cudaVideoChromaFormat=int
    )
    nvdec._lock, nvdec._known_caps = threading.Lock(), {}
    return nvdec


@pytest.mark.parametrize(
    ("gpu", "told"),
    [
        (FullGpu(), "no 3 MiB left"),
        (NoDecoderLeft(), "out of memory"),
        (silent_nvdec(), "NVDEC does not say what it takes: PyNvDecoderCaps : Error code : 1"),
    ],
)
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


def fail(data: bytes) -> list:
    raise RuntimeError("cuvidCreateDecoder: CUDA_ERROR_OUT_OF_MEMORY")


@pytest.mark.parametrize(
    "name",
    ["restaurant_720p.mp4", "one-by-one-person-detection.mp4", "park_hevc_10bit.mkv", "rotation_90.mp4"],
)
def test_where_nvdec_fails_at_the_first_picture_none_is_lost(name):
    def count(opened):
        source = open_source(str(test_data() / "videos" / name), SourceOptions(), threading.Event())
        decoder = opened(source.open())
        pictures = sum(len(decoder.decode(packet)) for packet in iter(source.read, None)) + len(decoder.drain())
        decoder.close()
        source.close()
        return pictures

    gpu_first = GpuFirst(NvdecDouble(fail), logging.getLogger("onpace.source.yard"))
    expected = count(lambda info: open_decoder(info, 1))
    assert count(lambda info: gpu_first.open(info, lambda: open_decoder(info, 1))) == expected > 10


class RefusesWithPictures:
    """NVDEC that has pictures left as it refuses the first packet."""

    def open(self, info):
        return self

    def decode(self, packet):
        raise NvdecRefusedError("it is too large", ["first", "second"])

    def close(self):
        pass


class Damaged:
    """Software to which the first packet is damaged."""

    def __init__(self):
        self.packets = []

    def decode(self, packet):
        self.packets.append(packet)
        if len(self.packets) == 1:
            raise CorruptPacketError("damaged")
        return ["third"]

    def drain(self):
        return ["last"]

    def close(self):
        pass


@pytest.mark.parametrize("goes_on", [True, False])
def test_nvdecs_last_pictures_outlive_a_damaged_packet(goes_on):
    gpu_first = GpuFirst(RefusesWithPictures(), logging.getLogger("onpace.source.yard"))
    decoder = gpu_first.open(None, Damaged)
    with pytest.raises(CorruptPacketError):
        decoder.decode("packet 1")
    found = decoder.decode("packet 2") if goes_on else []
    found += decoder.drain()
    assert found == ["first", "second", *(["third"] if goes_on else []), "last"]


HERE = frozenset(os.sched_getaffinity(0))
ONE = frozenset({min(HERE)})


@pytest.fixture
def one_core():
    keep_to(ONE)
    yield
    keep_to(HERE)
    cores._all_cores = None


@pytest.mark.skipif(len(HERE) < 2, reason="needs two cores")
@pytest.mark.usefixtures("one_core")
@pytest.mark.parametrize(
    ("gpu", "opened_on", "decoded_on"),
    [
        pytest.param(NvdecDouble(), ONE, ONE, id="NVDEC takes it"),
        pytest.param(NvdecDouble(fail), ONE, HERE, id="NVDEC fails at a picture"),
        pytest.param(NoDecoderLeft(), HERE, HERE, id="NVDEC refuses it"),
        pytest.param(None, HERE, HERE, id="software"),
    ],
)
def test_a_stream_leaves_its_workers_core_only_where_software_decodes_it(gpu, opened_on, decoded_on):
    url = str(test_data() / "videos/restaurant_720p.mp4")
    config = config_from_mapping({"streams": [{"id": "yard", "url": url}], "infer": {"model": "sample:street.onnx"}})
    plan = plan_stream(config.streams[0], config)
    queue = BoundedQueue(2, "drop_oldest")
    meter = StreamMeter("yard", KeepupSettings(), live=False)
    stream = StreamSupervisor(plan, queue, meter, BusyClock(), on_failure=lambda error: None, nvdec=gpu)
    seen = []

    def play():
        source = open_source(url, SourceOptions(), threading.Event())
        decoder = stream._open_decoder(source.open())
        seen.append(os.sched_getaffinity(0))
        decoder.decode(source.read())
        seen.append(os.sched_getaffinity(0))
        decoder.close()
        source.close()

    thread = threading.Thread(target=play)
    thread.start()
    thread.join(20)
    assert seen == [opened_on, decoded_on]


@pytest.mark.skipif(len(HERE) < 2, reason="needs two cores")
@pytest.mark.usefixtures("one_core")
def test_after_a_fall_back_the_codecs_own_threads_are_on_all_cores():
    cores_of = {}

    def play():
        source = open_source(str(test_data() / "videos/restaurant_720p.mp4"), SourceOptions(), threading.Event())
        info = source.open()
        before = set(Path("/proc/self/task").iterdir())
        gpu_first = GpuFirst(NvdecDouble(fail), logging.getLogger("onpace.source.yard"))
        decoder = gpu_first.open(info, lambda: open_decoder(info, None))
        assert sum(len(decoder.decode(source.read())) for _ in range(10)) > 0
        for thread in set(Path("/proc/self/task").iterdir()) - before:
            cores_of[thread] = os.sched_getaffinity(int(thread.name))
        decoder.close()
        source.close()

    thread = threading.Thread(target=play)
    thread.start()
    thread.join(20)
    assert len(cores_of) == 2  # larger than 960x540
    assert set(map(frozenset, cores_of.values())) == {HERE}


class FullAtTheEnd(FullGpu):
    """Has no memory left for the pictures that it holds back."""

    def decode(self, packet):
        return []

    def drain(self):
        raise DeviceMemoryError("GPU 0 (NVIDIA TEST) has no 3 MiB left for a tensor [3133440].")


def test_without_memory_at_the_end_of_a_file_the_stream_ends_well_and_says_so(caplog):
    source = open_source(str(test_data() / "videos/restaurant_720p.mp4"), SourceOptions(), threading.Event())
    gpu_first = GpuFirst(FullAtTheEnd(), logging.getLogger("onpace.source.yard"))
    info = source.open()
    decoder = gpu_first.open(info, lambda: open_decoder(info, 1))
    decoder.decode(source.read())
    assert decoder.drain() == []
    decoder.close()
    source.close()
    assert "decoding in software: GPU 0 (NVIDIA TEST) has no 3 MiB left" in caplog.text
