"""A change of size in the middle of a stream is seen in every codec that NVDEC takes, and nowhere else."""

from __future__ import annotations

import io
import logging
import threading
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.decode.coded import header_of
from pipeline.decode.decoder import open_decoder
from pipeline.decode.gpu_first import GpuFirst
from pipeline.decode.nvdec_kind import Kind
from pipeline.decode.size_headers import SIZE_HEADERS
from pipeline.frame import Size
from pipeline.source.source import SourceOptions, open_source
from tests.decode.test_nvdec_sessions import fail
from tests.helpers.nvdec_double import NvdecDouble

REALTIME = {"deadline": "realtime", "cpu-used": "8"}
ENCODERS = {  # PyNvVideoCodec's name: encoder, its options, container
    "AV1": ("libsvtav1", {"preset": "12", "svtav1-params": "keyint=5"}, "ivf"),
    "H264": ("libx264", {"preset": "ultrafast"}, "h264"),
    "HEVC": ("libx265", {"preset": "ultrafast", "x265-params": "log-level=none"}, "hevc"),
    "MPEG2": ("mpeg2video", {}, "mpeg2video"),
    "VP8": ("libvpx", REALTIME, "ivf"),
    "VP9": ("libvpx-vp9", REALTIME, "ivf"),
}
LARGE, SMALL = (640, 360), (320, 192)
IVF_HEADER = 32
PICTURES, KEYFRAMES = 10, 2  # of each part


def part(codec: str, size: tuple[int, int], layout: str = "yuv420p", container: str | None = None) -> bytes:
    """Return a stream of 10 noisy pictures, of which every fifth is a keyframe."""
    encoder, options, own_container = ENCODERS[codec]
    if encoder not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {encoder}")
    width, height = size
    whole = io.BytesIO()
    with av.open(whole, "w", format=container or own_container) as muxer:
        stream = muxer.add_stream(encoder, rate=25, options={"g": "5", "bf": "0", **options})
        stream.width, stream.height, stream.pix_fmt = width, height, layout
        noise = np.random.default_rng(width)
        for _ in range(PICTURES):
            pixels = noise.integers(60, 200, (height * 3 // 2, width), np.uint8)
            muxer.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "yuv420p").reformat(format=layout)))
        muxer.mux(stream.encode(None))
    return whole.getvalue()


def joined(codec: str, *sizes: tuple[int, int]) -> bytes:
    """Return one stream of a part of each size."""
    parts = [part(codec, size) for size in sizes]
    if ENCODERS[codec][2] != "ivf":
        return b"".join(parts)
    whole, number = bytearray(parts[0][:IVF_HEADER]), 0
    for one in parts:
        at = IVF_HEADER
        while at < len(one):
            end = at + 12 + int.from_bytes(one[at : at + 4], "little")
            whole += one[at : at + 4] + number.to_bytes(8, "little") + one[at + 12 : end]
            at, number = end, number + 1
    return bytes(whole)


def packets(stream: bytes) -> list[tuple[bool, bytes]]:
    with av.open(io.BytesIO(stream)) as container:
        return [(bool(packet.is_keyframe), bytes(packet)) for packet in container.demux(video=0) if packet.size]


def headers(stream: bytes, codec: str) -> list[bytes]:
    """Return what each keyframe tells of its size."""
    found = [header_of(data, codec) for is_keyframe, data in packets(stream) if is_keyframe]
    assert len(found) >= KEYFRAMES
    return found


def play(path: Path, nvdec: NvdecDouble, every: int = 1) -> list[bytes]:
    """Return the stream's packets, once NVDEC's stand-in was given them, or one in so many."""
    source = open_source(str(path), SourceOptions(), threading.Event())
    played = []
    try:
        info = source.open()
        decoder = GpuFirst(nvdec, logging.getLogger("test")).open(info, lambda: open_decoder(info, 1))
        for packet in islice(iter(source.read, None), 0, None, every):
            played.append(bytes(packet.payload))
            decoder.decode(packet)
        decoder.close()
    finally:
        source.close()
    return played


@pytest.mark.parametrize("codec", ENCODERS)
def test_keyframes_of_one_size_have_one_header_and_those_of_another_have_another(codec):
    (large,), (small,) = set(headers(part(codec, LARGE), codec)), set(headers(part(codec, SMALL), codec))
    assert large != small
    assert large and small


@pytest.mark.parametrize(
    ("codec", "header"),
    [
        ("MPEG2", bytes.fromhex("280168")),
        ("VP8", bytes.fromhex("80026801")),
        ("VP9", bytes.fromhex("027f016708")),
    ],
)
def test_the_header_is_the_size_alone(codec, header):
    assert set(headers(part(codec, LARGE), codec)) == {header}


@pytest.mark.parametrize("layout", ["yuv420p", "yuv444p", "gbrp"])
def test_sampling_of_vp9_changes_nothing_of_its_size(layout):
    assert set(headers(part("VP9", SMALL, layout), "VP9")) == {bytes.fromhex("013f00bf08")}


def vp9_keyframe(**changed: str) -> bytes:
    """Return the first bits of a VP9 keyframe of 320x192, some of them changed."""
    fields = {
        "marker": "10",
        "profile": "00",  # its low bit comes first
        "shows_existing": "0",
        "is_inter": "0",
        "shown": "10",
        "sync": format(0x498342, "024b"),
        "colours": "0100",
        "size": format(319, "016b") + format(191, "016b"),
    }
    bits = "".join({**fields, **changed}.values()).ljust(160, "0")
    return int(bits, 2).to_bytes(20, "big")


@pytest.mark.parametrize(
    ("profile", "colours", "depth"),
    [
        ("00", "0100", 8),
        ("10", "0100000", 8),
        ("10", "1110", 8),  # RGB
        ("01", "00100", 10),
        ("01", "10100", 12),
        ("110", "00100000", 10),
        ("110", "11110", 12),
    ],
)
def test_every_profile_of_vp9_is_read(profile, colours, depth):
    header = header_of(vp9_keyframe(profile=profile, colours=colours), "VP9")
    assert header == bytes.fromhex("013f00bf") + bytes([depth])


@pytest.mark.parametrize(
    "changed",
    [
        {"marker": "11"},
        {"profile": "111"},  # one to come
        {"shows_existing": "1"},
        {"is_inter": "1"},
        {"sync": format(0x498343, "024b")},
        {"colours": "1110"},  # RGB in 4:2:0
    ],
)
def test_what_is_no_keyframe_of_vp9_has_no_header(changed):
    assert header_of(vp9_keyframe(**changed), "VP9") == b""


@pytest.mark.parametrize("codec", ["AV1", "VP8", "VP9"])
def test_pictures_between_keyframes_have_no_header(codec):
    between = [data for is_keyframe, data in packets(part(codec, LARGE)) if not is_keyframe]
    assert len(between) >= PICTURES // 2
    assert {header_of(data, codec) for data in between} == {b""}


@pytest.mark.parametrize("codec", ENCODERS)
def test_another_size_in_the_middle_of_a_stream_gets_a_decoder_of_its_own(tmp_path, codec):
    path = tmp_path / f"clip.{ENCODERS[codec][2]}"
    path.write_bytes(joined(codec, LARGE, SMALL, LARGE))
    nvdec = NvdecDouble()
    played = play(path, nvdec)
    assert [len(session.given) for session in nvdec.sessions] == [PICTURES] * 3
    assert [data for session in nvdec.sessions for data in session.given] == played
    assert [session.closed for session in nvdec.sessions] == [True, True, False]


@pytest.mark.parametrize("codec", ["H264", "VP9"])
def test_another_size_is_seen_right_after_a_keyframe_that_the_first_decoder_did_not_take(tmp_path, codec):
    class FirstFails(NvdecDouble):
        def new_session(self, kind):
            session = super().new_session(kind)
            session.answer = (lambda data: []) if self.sessions[1:] else fail
            return session

    path = tmp_path / f"clip.{ENCODERS[codec][2]}"
    path.write_bytes(joined(codec, LARGE, SMALL))
    nvdec = FirstFails()
    play(path, nvdec, every=PICTURES)
    assert [len(session.given) for session in nvdec.sessions] == [1, 1, 1]


@pytest.mark.parametrize(
    ("codec", "size", "room"),
    [
        ("H264", (640, 360), (640, 384)),
        ("VP9", (4096, 4096), (4096, 4096)),
        ("MPEG2", (720, 576), (768, 576)),
        ("MPEG2", (4096, 4096), (4080, 4080)),
    ],
)
def test_no_decoder_is_made_for_more_than_its_codec_can_have(codec, size, room):
    assert Kind(codec, "nv12", 8, Size(*size), at_once=False).room == room


@pytest.mark.parametrize("codec", ENCODERS)
def test_one_size_keeps_its_decoder_and_so_does_the_next_connection(tmp_path, codec):
    path = tmp_path / f"clip.{ENCODERS[codec][2]}"
    path.write_bytes(joined(codec, LARGE, LARGE))
    nvdec = NvdecDouble()
    played = [*play(path, nvdec), *play(path, nvdec)]
    (session,) = nvdec.sessions
    assert session.given == played


@pytest.mark.parametrize("codec", SIZE_HEADERS)
def test_nothing_is_put_before_keyframes_whose_description_has_the_size_too(tmp_path, codec):
    path = tmp_path / "clip.mkv"
    path.write_bytes(part(codec, LARGE, container="matroska"))
    nvdec = NvdecDouble()
    played = play(path, nvdec)
    (session,) = nvdec.sessions
    assert session.given == played


@pytest.mark.parametrize("codec", SIZE_HEADERS)
def test_a_keyframe_that_is_cut_off_has_its_header_or_none(codec):
    data = packets(part(codec, SMALL))[0][1]
    whole = header_of(data, codec)
    found = [header_of(data[:length], codec) for length in range(100)]
    assert found == sorted(found, key=len)
    assert set(found) == {b"", whole}


@given(data=st.binary(max_size=64))
@example(data=b"\x0a" + b"\xff" * 9)  # a length without an end
@example(data=b"\x0e")  # an extension and a length that are not there
@example(data=b"\x08")  # no length: the rest, which is nothing
def test_any_bytes_have_a_header_or_none(data):
    for begin in (b"", b"\x82\x49\x83\x42", b"\xb0\x24\xc1\xa1", b"\0\0\0\x9d\x01\x2a", b"\0\0\1\xb3", b"\x12\0"):
        for codec in SIZE_HEADERS:
            assert isinstance(header_of(begin + data, codec), bytes)


def test_sequence_headers_of_av1_are_found_among_other_units():
    delimiter, metadata = b"\x12\0", b"\x2a\x02\x01\x02"
    layered = b"\x0e\x08\x03abc"  # with an extension
    assert header_of(delimiter + metadata + b"\x0a\x03abc\x32\x01x", "AV1") == b"abc"
    assert header_of(delimiter + layered, "AV1") == b"abc"
    assert header_of(delimiter + b"\x08abc", "AV1") == b"abc"  # the last one may go without its length
    assert header_of(b"\x0a\x83\x80\x00abc", "AV1") == b"abc"  # a length in more bytes than it needs
    assert header_of(delimiter + b"\x8a\x03abc", "AV1") == b""  # the forbidden bit
    assert header_of(delimiter + b"\x0a\x04abc", "AV1") == b""
