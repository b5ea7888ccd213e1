"""Start codes in place of lengths: the same units as FFmpeg's filter gives, and the same pictures."""

from __future__ import annotations

import ctypes
import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.decode.coded import with_start_codes
from pipeline.decode.nal_units import after_start_codes, put_start_codes
from pipeline.decode.nvdec_kind import has_long_lengths
from pipeline.frame import Size, StreamInfo
from tests.decode.test_disposable import X264, X265, described, write_clip
from tests.helpers.test_data import test_data

CLIPS = {  # name: container, encoder, its options, units that some picture has at least
    "h264": ("mp4", "libx264", {X264: "bframes=2:keyint=25"}, 1),
    "h264 slices": ("mp4", "libx264", {X264: "bframes=3:keyint=20:slices=4:threads=1"}, 4),
    "h264 open": ("matroska", "libx264", {X264: "bframes=3:open-gop=1:keyint=15:aud=1:slices=2"}, 3),
    "h264 refresh": ("mp4", "libx264", {X264: "intra-refresh=1:keyint=20"}, 2),
    "h264 fields": ("mp4", "libx264", {X264: "bframes=2:interlaced=1:tff=1"}, 2),
    "hevc": ("mp4", "libx265", {X265: "bframes=4:keyint=25:log-level=none"}, 1),
    "hevc slices": ("mp4", "libx265", {X265: "bframes=3:keyint=20:ctu=16:slices=3:log-level=none"}, 3),
    "hevc open": ("matroska", "libx265", {X265: "open-gop=1:keyint=15:aud=1:log-level=none"}, 2),
}
REAL = ["restaurant_720p.mp4", "rotation_90.mp4", "nasa_multistream.mp4", "park_hevc_10bit.mkv"]


@pytest.fixture(scope="module", params=[*CLIPS, *REAL])
def clip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A file and how many units some picture of it has at least."""
    if request.param in REAL:
        return test_data() / "videos" / request.param, 1
    container_format, encoder, options, units = CLIPS[request.param]
    if encoder not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {encoder}")
    return write_clip(tmp_path_factory.mktemp("clips") / "clip", container_format, encoder, options), units


def packets(path: Path, most: int = 100) -> Iterator[tuple[Any, Any]]:
    """Yield packets with the filter that FFmpeg has for them."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        known = av.bitstream.BitStreamFilterContext(f"{stream.codec_context.name}_mp4toannexb", stream)
        for count, packet in enumerate(container.demux(stream)):
            if packet.size and count < most:
                yield packet, known


def units_of(data: bytes) -> list[bytes]:
    begins = list(after_start_codes(data))
    ends = [begin - 3 for begin in begins[1:]] + [len(data)]
    return [data[begin:end].rstrip(b"\0") for begin, end in zip(begins, ends, strict=True)]


def rewritten(packet: Any) -> bytes:
    coded = with_start_codes(packet)
    assert coded is not None
    assert ctypes.string_at(coded.buffer_ptr, coded.buffer_size) == bytes(coded.data)
    return bytes(coded.data)


def test_packets_between_keyframes_become_what_the_filter_makes_of_them(clip: tuple[Path, int]) -> None:
    path, least = clip
    most = compared = 0
    for packet, known in packets(path):
        ours = None if packet.is_keyframe else rewritten(packet)
        theirs = b"".join(bytes(part) for part in known.filter(packet))  # takes the packet's bytes away
        if ours is not None:
            assert units_of(ours) == units_of(theirs)
            most = max(most, len(units_of(ours)))
            compared += 1
    assert compared > 20
    assert most >= least


def samples(picture: av.VideoFrame) -> list[NDArray[np.uint8]]:
    """Return the planes' bytes without what pads their rows. Not every PyAV makes an array of 10 bits."""
    width = 2 if picture.format.components[0].bits > 8 else 1
    return [
        np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width * width]
        for plane in picture.planes
    ]


def test_keyframes_filtered_and_the_rest_rewritten_decode_to_the_same_pictures(clip: tuple[Path, int]) -> None:
    path, _ = clip
    joined = io.BytesIO()
    for packet, known in packets(path):
        if packet.is_keyframe:
            joined.write(b"".join(bytes(part) for part in known.filter(packet)))
        else:
            joined.write(rewritten(packet))
    joined.seek(0)
    count = 0
    with av.open(str(path)) as whole:
        pictures = whole.decode(video=0)
        with av.open(joined, format=whole.streams.video[0].codec_context.name) as again:
            for picture in islice(again.decode(video=0), 80):  # the last of those that were read lack a reference
                for found, expected in zip(samples(picture), samples(next(pictures)), strict=True):
                    np.testing.assert_array_equal(found, expected)
                count += 1
    assert count >= 30


def test_only_containers_put_lengths_before_units(tmp_path: Path) -> None:
    for container_format, long in (("mp4", True), ("matroska", True), ("mpegts", False), ("h264", False)):
        path = write_clip(tmp_path / f"clip.{container_format}", container_format, "libx264", {X264: "keyint=25"})
        with av.open(str(path)) as container:
            template = container.streams.video[0]
            info = StreamInfo("pyav", False, "h264", Size(192, 160), 25.0, template)
            assert has_long_lengths(info) is long, container_format


@pytest.mark.parametrize(
    ("codec", "extradata", "long"),
    [
        ("h264", b"\x01\x64\x00\x1e\xff\xe1", True),
        ("h264", b"\x01\x64\x00\x1e\xfd\xe1", False),  # lengths of 2 bytes
        ("h264", b"\x01\x64\x00\x1e", False),
        ("hevc", b"\x01" + bytes(20) + b"\x0f\x03", True),
        ("hevc", b"\x01" + bytes(20) + b"\x0c\x03", False),  # of 1 byte
        ("hevc", b"\x01" + bytes(20), False),
        ("h264", b"\0\0\0\x01\x67\xff", False),
        ("h264", b"", False),
    ],
)
def test_a_container_tells_how_long_its_lengths_are(codec: str, extradata: bytes, long: bool) -> None:
    assert has_long_lengths(described(codec, extradata)) is long


units = st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=5)


def with_lengths(parts: list[bytes]) -> bytearray:
    return bytearray(b"".join(len(part).to_bytes(4, "big") + part for part in parts))


@given(parts=units)
def test_nothing_but_lengths_is_changed(parts: list[bytes]) -> None:
    data = with_lengths(parts)
    put_start_codes(data)
    assert data == b"".join(b"\0\0\0\1" + part for part in parts)


@given(parts=units, damage=st.data())
def test_damaged_lengths_are_refused_and_leave_the_packet_to_the_filter(parts: list[bytes], damage: Any) -> None:
    whole = with_lengths(parts)
    last = len(whole) - len(parts[-1]) - 4
    cut = whole[: damage.draw(st.integers(last + 1, len(whole) - 1))]
    longer, empty = bytearray(whole), bytearray(whole)
    longer[last : last + 4] = (len(parts[-1]) + 1).to_bytes(4, "big")
    empty += bytes(4)
    for damaged in (cut, longer, empty):
        before = bytes(damaged)
        with pytest.raises(ValueError, match="a unit ends at"):
            put_start_codes(damaged)
        assert damaged == before
        assert with_start_codes(av.Packet(before)) is None


def test_an_empty_packet_is_left_to_the_filter() -> None:
    assert with_start_codes(av.Packet(b"")) is None
