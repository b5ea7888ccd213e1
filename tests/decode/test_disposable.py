"""What is left out before decoding changes no other picture: told from headers, and held against real decoders."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.decode.decoder import Decoder, Picture, open_decoder
from pipeline.decode.disposable import open_disposable
from pipeline.decode.nal_units import H264Headers, Unit
from pipeline.decode.nvdec import Nvdec
from pipeline.frame import Size, StreamInfo, on_host
from pipeline.source.source import SourceOptions, open_source
from tests.decode.streams import BitWriter, packet_of
from tests.helpers.test_data import test_data

PICTURES = 60
Opened = Callable[[StreamInfo], Decoder]

X264 = "x264-params"
X265 = "x265-params"
CLIPS = {  # name: container, encoder, its options, whether something in it can be left out
    "h264 without b": ("mp4", "libx264", {X264: "bframes=0"}, False),
    "h264 pyramid": ("mp4", "libx264", {X264: "bframes=5:b-pyramid=normal:b-adapt=0:keyint=25"}, True),
    "h264 start codes": ("mpegts", "libx264", {X264: "bframes=2:b-pyramid=strict:b-adapt=0:keyint=25"}, True),
    "h264 open": ("matroska", "libx264", {X264: "bframes=3:open-gop=1:keyint=15:b-adapt=0:ref=6"}, True),
    "h264 no times": ("h264", "libx264", {X264: "bframes=2:b-pyramid=none:b-adapt=0:keyint=25"}, True),
    "h264 refresh": ("mpegts", "libx264", {X264: "bframes=2:b-pyramid=none:intra-refresh=1:b-adapt=0"}, True),
    "h264 fields": ("mp4", "libx264", {X264: "bframes=2:interlaced=1:tff=1:b-adapt=0"}, False),
    "hevc": ("mp4", "libx265", {X265: "bframes=4:b-adapt=0:keyint=25:log-level=none"}, True),
    "hevc open": ("matroska", "libx265", {X265: "bframes=6:open-gop=1:b-adapt=0:keyint=20:log-level=none"}, True),
    "hevc two layers": ("mpegts", "libx265", {X265: "temporal-layers=2:bframes=3:b-adapt=0:log-level=none"}, True),
    "hevc four layers": ("hevc", "libx265", {X265: "temporal-layers=4:bframes=7:b-adapt=0:log-level=none"}, True),
    "hevc without b": ("mp4", "libx265", {X265: "bframes=0:log-level=none"}, False),
    "mjpeg": ("avi", "mjpeg", {}, True),
    "mpeg2": ("mpegts", "mpeg2video", {}, False),
}


def write_clip(path: Path, container_format: str, encoder: str, options: dict[str, str]) -> Path:
    """Something that moves, so that pictures depend on each other."""
    ground = np.random.default_rng(1).integers(0, 255, (160, 192), np.uint8)
    with av.open(str(path), "w", format=container_format) as container:
        stream = container.add_stream(encoder, rate=25, options=options)
        stream.width, stream.height = 192, 160
        stream.pix_fmt = "yuvj420p" if encoder == "mjpeg" else "yuv420p"
        stream.time_base = Fraction(1, 25)
        for number in range(PICTURES):
            picture = np.full((240, 192), 128, np.uint8)
            picture[:160] = np.roll(ground, (number, 2 * number), (0, 1))
            picture[20:50, 2 * number : 2 * number + 30] = 4 * number
            frame = av.VideoFrame.from_ndarray(picture, stream.pix_fmt)
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def software(info: StreamInfo) -> Decoder:
    return open_decoder(info, 1)


def decoded(path: Path, left_out: Random | None, live: bool, opened: Opened) -> tuple[list[str], int, int]:
    """Return the pictures' fingerprints, in order, how many packets could be left out, and how many were."""
    source = open_source(str(path), SourceOptions(), threading.Event())
    info = source.open()
    info = StreamInfo(info.decoder, live, info.codec, info.size, info.declared_fps, info.template)
    decoder, disposable = opened(info), open_disposable(info)
    prints: list[str] = []
    found = left = 0
    while (packet := source.read()) is not None:
        if disposable is not None and disposable(packet):
            found += 1
            if left_out is not None and left_out.random() < 0.7:
                left += 1
                continue
        prints += map(fingerprint, decoder.decode(packet))
    prints += map(fingerprint, decoder.drain())
    decoder.close()
    source.close()
    return prints, found, left


def fingerprint(picture: Picture) -> str:
    return hashlib.sha256(b"".join(plane.tobytes() for plane in on_host(picture.planes))).hexdigest()


def holds_in_order(all_of_them: list[str], some: list[str]) -> bool:
    """Whether ``some`` is ``all_of_them`` with a few missing."""
    rest = iter(all_of_them)
    return all(one in rest for one in some)


def check(path: Path, *, seed: int, opened: Opened = software) -> int:
    """Hold what comes out with packets left out against what comes out without; return how many could be."""
    live = bool(seed % 2)
    whole, found, _ = decoded(path, None, live, opened)
    rest, again, left = decoded(path, Random(seed), live, opened)
    assert found == again
    assert len(rest) == len(whole) - left
    assert holds_in_order(whole, rest)
    return found


@pytest.mark.parametrize("name", CLIPS)
def test_other_pictures_come_out_as_they_were(tmp_path: Path, name: str) -> None:
    container_format, encoder, options, some = CLIPS[name]
    if encoder not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {encoder}")
    path = write_clip(tmp_path / "clip", container_format, encoder, options)
    for seed in range(2):
        assert (check(path, seed=seed) >= PICTURES / 4) is some


@pytest.mark.cuda
@pytest.mark.parametrize("name", [name for name in CLIPS if name not in ("h264 fields", "mjpeg", "mpeg2")])
def test_other_pictures_come_out_of_nvdec_as_they_were(nvdec: Nvdec, tmp_path: Path, name: str) -> None:
    container_format, encoder, options, some = CLIPS[name]
    path = write_clip(tmp_path / "clip", container_format, encoder, options)
    for seed in range(2):
        assert (check(path, seed=seed, opened=nvdec.open) >= PICTURES / 4) is some


@pytest.mark.parametrize(
    "name", ["nasa_multistream.mp4", "park_hevc_10bit.mkv", "resolution_change.h264", "rotation_90.mp4"]
)
def test_other_pictures_of_real_videos_come_out_as_they_were(name: str) -> None:
    assert check(test_data() / "videos" / name, seed=1) > 10


def test_baseline_video_has_nothing_to_leave_out() -> None:
    assert check(test_data() / "videos" / "car-detection.mp4", seed=1) == 0


def coded(content: bytes, **facts: Any) -> Any:
    packet = packet_of(av.Packet(content))
    for name, fact in facts.items():
        setattr(packet.payload, name, fact)
    return packet


def described(codec: str, extradata: bytes = b"") -> StreamInfo:
    template = SimpleNamespace(codec_context=SimpleNamespace(extradata=extradata))
    return StreamInfo("pyav", True, codec, Size(16, 16), 25.0, template)


def test_motion_jpeg_that_borrows_tables_is_decoded_whole() -> None:
    disposable = open_disposable(described("mjpeg"))
    assert disposable is not None
    whole, abbreviated = coded(b"\xff\xd8\xff\xdb....\xff\xd9"), coded(b"\xff\xd8\xff\xc0....\xff\xd9")
    assert [disposable(packet) for packet in (whole, whole, abbreviated, whole)] == [True, True, False, False]


SPS_WITH_FRAMES = BitWriter().put(66, 8).put(0, 8).put(30, 8).golomb(0, 0, 2, 1).put(0, 1).golomb(9, 9).put(1, 1)
FREE_SLICE, REFERENCE_SLICE = b"\0\0\1\x01\x9a\x00\x10", b"\0\0\1\x41\x9a\x00\x10"


def test_a_packet_is_kept_for_whatever_else_is_in_it() -> None:
    disposable = open_disposable(described("h264"))
    assert disposable is not None
    assert not disposable(coded(FREE_SLICE)), "nothing is known before the sequence parameters"
    sps = SPS_WITH_FRAMES.nal(0x67)
    assert not disposable(coded(sps + FREE_SLICE)), "later pictures need the parameters"
    assert disposable(coded(FREE_SLICE))
    assert disposable(coded(b"\0\0\1\x09\xf0" + FREE_SLICE + FREE_SLICE)), "a delimiter, and two slices of one picture"
    assert not disposable(coded(FREE_SLICE + REFERENCE_SLICE)), "two pictures, or two fields"
    assert not disposable(coded(FREE_SLICE + b"\0\0\1\x0b")), "an end of the stream"
    assert not disposable(coded(b""))


def test_scaling_matrices_do_not_hide_whether_pictures_are_fields() -> None:
    for whole_frames in (0, 1):
        sps = BitWriter().put(100, 8).put(0, 8).put(30, 8).golomb(0, 1, 0, 0).put(0b01, 2)
        for number in range(8):
            sps.put(number % 2, 1)
            for _ in range((16 if number < 6 else 64) * (number % 2)):
                sps.put(1, 1)  # no difference from the one before
        sps.golomb(0, 1).put(0, 1).golomb(0, 0, 2, 7, 7).golomb(3).put(0, 1).golomb(9, 9).put(whole_frames, 1)
        headers = H264Headers()
        assert headers.look(sps.nal(0x67), 4) is Unit.PARAMETERS
        assert headers.look(b"\x01\x9a", 0) is (Unit.FREE if whole_frames else Unit.NEEDED)


@settings(max_examples=300, deadline=None)
@given(
    codec=st.sampled_from(["h264", "hevc", "mjpeg"]),
    extradata=st.binary(max_size=60) | st.binary(max_size=60).map(lambda rest: b"\1" + rest),
    contents=st.lists(st.binary(max_size=80) | st.binary(max_size=30).map(lambda rest: b"\0\0\1" + rest), max_size=4),
)
def test_no_bytes_can_upset_it(codec: str, extradata: bytes, contents: list[bytes]) -> None:
    disposable = open_disposable(described(codec, extradata))
    assert disposable is not None
    for content in contents:
        assert disposable(coded(content)) in (True, False)
