"""NVDEC's pictures are the software decoder's; what it refuses is decoded in software, and said."""

import logging
import threading
from itertools import groupby
from pathlib import Path

import av
import numpy as np
import pytest

from engines.errors import RuntimeMissingError
from pipeline.decode.decoder import open_decoder
from pipeline.decode.gpu_first import GpuFirst
from pipeline.decode.nal_units import sequence_header
from pipeline.decode.nvdec import open_nvdec
from pipeline.decode.nvdec_kind import NvdecRefusedError, check_caps
from pipeline.decode.planes import to_planes
from pipeline.decode.surfaces import narrow_to_8_bits
from pipeline.frame import Size, StreamInfo, on_host
from pipeline.source.source import SourceOptions, open_source
from tests.decode.test_described_parameters import CLIPS as DESCRIBED
from tests.decode.test_described_parameters import Described
from tests.decode.test_described_parameters import write as write_described
from tests.decode.test_size_headers import ENCODERS, LARGE, SMALL, joined
from tests.helpers.test_data import test_data

CAPS = {"num_decoder_engines": 7, "width_max": 4096, "height_max": 4096, "width_min": 48, "height_min": 16}


def info_of(width, height):
    return StreamInfo("pyav", False, "h264", Size(width, height), 25.0)


def test_ten_bits_are_narrowed_as_ffmpeg_does_it():
    values = np.random.default_rng(3).integers(0, 1024, (34, 66)).astype(np.uint16)
    frame = av.VideoFrame(66, 34, "yuv420p10le")
    for plane in frame.planes:
        rows = np.zeros((plane.height, plane.line_size // 2), np.uint16)
        rows[:, : plane.width] = values[: plane.height, : plane.width]
        plane.update(rows.tobytes())
    planes, _, _owner = to_planes(frame)
    np.testing.assert_array_equal(narrow_to_8_bits(values, 1), planes[0])
    pairs = np.ascontiguousarray(values[:17, :33].repeat(2, axis=1))
    np.testing.assert_array_equal(narrow_to_8_bits(pairs, 2)[:, ::2], planes[1])


def test_a_change_of_size_is_seen_in_the_stream_itself():
    seen = set()
    with av.open(str(test_data() / "videos/resolution_change.h264")) as container:
        for packet in container.demux(video=0):
            if packet.size and packet.is_keyframe:
                seen.add(sequence_header(bytes(packet)[:1024], "H264"))
    assert len(seen) > 1
    assert b"" not in seen
    assert sequence_header(b"\0\0\1\x65abc", "H264") == b""


@pytest.mark.parametrize(
    ("caps", "size", "told"),
    [
        ({}, (640, 480), "does not decode h264"),
        (CAPS, (8192, 480), "8192x480; NVDEC takes h264 from 48x16 to 4096x4096"),
        (CAPS, (40, 40), "40x40"),
        ({**CAPS, "mb_num_max": 100}, (640, 480), "25600 pixels"),
    ],
)
def test_what_nvdec_cannot_take_is_refused_with_the_reason(caps, size, told):
    with pytest.raises(NvdecRefusedError, match=told):
        check_caps(caps, info_of(*size), "NVIDIA H200")
    check_caps(CAPS, info_of(1920, 1080), "NVIDIA H200")


def test_decoding_on_a_gpu_needs_the_model_there():
    assert open_nvdec(None, "auto") is None
    assert open_nvdec(None, "cpu") is None
    with pytest.raises(RuntimeMissingError, match=r"decode\.device"):
        open_nvdec(None, "gpu")


@pytest.fixture
def nvdec(nvdec):
    yield nvdec
    assert nvdec.surfaces.in_use == 0


def pictures(path: Path, gpu_first=None, most=120):
    return pictures_from(open_source(str(path), SourceOptions(), threading.Event()), gpu_first, most)


def pictures_from(source, gpu_first=None, most=120):
    found = []
    try:
        info = source.open()
        decoder = open_decoder(info, 1) if gpu_first is None else gpu_first.open(info, lambda: open_decoder(info, 1))
        try:
            for _ in range(most):
                packet = source.read()
                if packet is None:
                    break
                found += [_seen(picture) for picture in decoder.decode(packet)]
            found += [_seen(picture) for picture in decoder.drain()]
        finally:
            decoder.close()
    finally:
        source.close()
    return found


def _seen(picture):
    return picture.pts_seconds, picture.colour, picture.rotation, on_host(picture.planes)


@pytest.mark.cuda
@pytest.mark.parametrize(
    "name",
    ["restaurant_720p.mp4", "park_hevc_10bit.mkv", "resolution_change.h264", "rotation_90.mp4", "car_mpegts.ts"],
)
def test_nvdec_gives_the_pictures_of_the_software_decoder(nvdec, name):
    path = test_data() / "videos" / name
    gpu_first = GpuFirst(nvdec, logging.getLogger("test"))
    for _ in range(2):  # the second time with the decoder of the first
        found, expected = pictures(path, gpu_first), pictures(path)
        assert [one[:3] for one in found] == [one[:3] for one in expected]
        for one, other in zip(found, expected, strict=True):
            for plane, wanted in zip(one[3], other[3], strict=True):
                np.testing.assert_array_equal(plane, wanted)


@pytest.mark.cuda
@pytest.mark.parametrize("codec", DESCRIBED)
def test_parameters_that_the_description_alone_holds_reach_nvdec(nvdec, codec, tmp_path, caplog):
    path = write_described(tmp_path, codec)
    gpu_first = GpuFirst(nvdec, logging.getLogger("test"))
    for _ in range(2):  # the second time with the decoder of the first
        found, expected = pictures_from(Described(path), gpu_first), pictures_from(Described(path))
        assert len(found) == len(expected) > 20
        for one, other in zip(found, expected, strict=True):
            assert one[:3] == other[:3]
            for plane, wanted in zip(one[3], other[3], strict=True):
                np.testing.assert_array_equal(plane, wanted)
    assert "decoding in software" not in caplog.text


@pytest.mark.cuda
def test_what_nvdec_refuses_is_decoded_in_software_and_said_once(nvdec, caplog):
    path = test_data() / "videos/person_mjpeg.avi"
    gpu_first = GpuFirst(nvdec, logging.getLogger("onpace.source.yard"))
    assert len(pictures(path, gpu_first, most=10)) == len(pictures(path, gpu_first, most=10)) == 10
    assert [record.message for record in caplog.records].count("decoding in software: NVDEC does not decode mjpeg") == 1


@pytest.mark.cuda
def test_opening_and_closing_a_hundred_times_keeps_no_memory(nvdec):
    path = test_data() / "videos/restaurant_720p.mp4"
    gpu_first = GpuFirst(nvdec, logging.getLogger("test"))
    for _ in range(5):
        pictures(path, gpu_first, most=8)
    lost = []
    for _ in range(4):  # other programs may take memory of the same GPU meanwhile: what is lost here is lost each time
        before = nvdec.gpu.free_bytes()
        for _ in range(25):
            pictures(path, gpu_first, most=8)
        lost.append(before - nvdec.gpu.free_bytes())
    assert min(lost) <= 2 << 20, lost


def _clip(folder: Path, *sizes: tuple[int, int]) -> Path:
    """Write 20 pictures of each size, one sequence after the other in one stream."""
    path = folder / f"{'-'.join(str(width) for width, _ in sizes)}.h264"
    with path.open("wb") as whole:
        for width, height in sizes:
            with av.open(str(folder / "part.h264"), "w", format="h264") as part:
                stream = part.add_stream("libx264", rate=25, options={"preset": "ultrafast", "bf": "0"})
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                for number in range(20):
                    picture = np.full((height * 3 // 2, width), 90 + 5 * number, np.uint8)
                    part.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "yuv420p")))
                part.mux(stream.encode(None))
            whole.write((folder / "part.h264").read_bytes())
    return path


@pytest.mark.cuda
def test_a_decoder_used_again_gives_pictures_of_their_own_size(nvdec, tmp_path):
    """NVDEC scales to the size that a decoder began with."""
    small, large = (640, 360), (1280, 720)
    gpu_first = GpuFirst(nvdec, logging.getLogger("test"))
    for clip in (_clip(tmp_path, (848, 480)), _clip(tmp_path, (864, 480)), *[_clip(tmp_path, small, large, small)] * 2):
        found, expected = pictures(clip, gpu_first), pictures(clip)
        assert [(one[1], one[3][0].shape) for one in found] == [(one[1], one[3][0].shape) for one in expected]


@pytest.mark.cuda
@pytest.mark.parametrize("codec", ENCODERS)
def test_pictures_are_of_their_own_size_after_a_change(nvdec, codec, tmp_path):
    path = tmp_path / f"clip.{ENCODERS[codec][2]}"
    path.write_bytes(joined(codec, LARGE, SMALL, LARGE))
    found, expected = pictures(path, GpuFirst(nvdec, logging.getLogger("test"))), pictures(path)
    assert len(found) >= len(expected)  # FFmpeg loses the last picture of MPEG-2 before a change
    sizes, expected_sizes = (
        [size for size, _ in groupby(one[3][0].shape for one in each)] for each in (found, expected)
    )
    assert sizes == expected_sizes
    assert [size[::-1] for size in sizes] == [LARGE, SMALL, LARGE]
