"""Decoders: the contract of the whole table, damage, giants and latency."""

from __future__ import annotations

import resource
import struct
import subprocess
import sys
import threading
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from pipeline.decode.decoder import DECODERS, CorruptPacketError, Picture, open_decoder
from pipeline.errors import SourceError
from pipeline.frame import Size, StreamInfo
from pipeline.source.source import SourceOptions, open_source
from tests.decode.streams import encoded, flat_frame, giant_h264, packet_of
from tests.helpers.numbered_clip import NumberedClip, read_number
from tests.source.playing import opened, play

IMAGE = StreamInfo(decoder="image", live=False, codec="png", size=Size(64, 48), declared_fps=None)


def png(value: int = 100, width: int = 64, height: int = 48) -> bytes:
    return cv2.imencode(".png", np.full((height, width, 3), value, np.uint8))[1].tobytes()


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return NumberedClip.make(tmp_path_factory.mktemp("clips"), fps=25, frames=60, b_frames=2)


@pytest.fixture
def streams(clip, tmp_path):
    """A source a decoder."""
    (tmp_path / "picture.png").write_bytes(png())
    return {"pyav": str(clip.path), "image": str(tmp_path), "raw": "pattern:?frames=5"}


@pytest.mark.parametrize("name", DECODERS)
def test_every_decoder_gives_each_packets_picture_with_its_packet(streams, name):
    seen = play(streams[name])
    assert seen.info is not None and seen.info.decoder == name
    assert len(seen.pictures) == len(seen.packets) > 0
    for picture in seen.pictures:
        assert isinstance(picture, Picture)
        assert all(plane.dtype == np.uint8 and plane.ndim == 2 for plane in picture.planes)
        assert picture.packet.pts_seconds == picture.pts_seconds
        assert picture.rotation in (0, 90, 180, 270)
        assert not picture.damaged


@pytest.mark.parametrize(("size", "threads"), [((320, 240), 1), ((1280, 720), 2)])
def test_only_large_pictures_of_a_file_are_decoded_side_by_side(tmp_path, size, threads):
    clip = NumberedClip.make(tmp_path, width=size[0], height=size[1], fps=25, frames=4, gop=4)
    source = opened(str(clip.path))
    info = source.open()
    decoder = open_decoder(info, None)
    for packet in iter(source.read, None):
        decoder.decode(packet)
    assert info.template.codec_context.thread_count == threads
    decoder.close()
    source.close()


@pytest.mark.parametrize("name", DECODERS)
def test_every_decoder_drains_to_nothing_and_closes_twice(streams, name):
    source = opened(streams[name])
    info = source.open()
    decoder = open_decoder(info, 1)
    assert decoder.drain() == []
    decoder.close()
    decoder.close()
    source.close()


@pytest.mark.parametrize("name", DECODERS)
def test_every_decoder_refuses_more_pixels_than_allowed_and_can_still_be_asked(streams, name):
    source = opened(streams[name])
    decoder = open_decoder(source.open(), 1, max_pixels=1000)
    first = source.read()
    with pytest.raises((SourceError, CorruptPacketError)):
        for packet in (first, *iter(source.read, None)):
            decoder.decode(packet)
        assert not decoder.drain()
        raise CorruptPacketError("no picture came out of it")
    with pytest.raises((SourceError, CorruptPacketError)):
        decoder.decode(first)
    assert decoder.drain() == []
    decoder.close()
    source.close()


def test_reordered_pictures_come_in_order_and_all_come(clip):
    seen = play(clip.path)
    assert [read_number(picture.planes[0]) for picture in seen.pictures] == list(range(60))


def test_garbage_in_the_middle_is_one_lost_packet_and_the_rest_goes_on(clip):
    source = opened(clip.path)
    info = source.open()
    decoder = open_decoder(info, 1)
    numbers, corrupt = [], 0
    for index, packet in enumerate(iter(source.read, None)):
        if index % 10 == 5:
            broken = av.Packet(b"\0\0\0\1" + bytes(range(1, 200)))
            broken.pts, broken.time_base = packet.payload.pts, packet.payload.time_base
            packet = packet_of(broken, packet.pts_seconds)
        try:
            numbers += [read_number(picture.planes[0]) for picture in decoder.decode(packet)]
        except CorruptPacketError as error:
            corrupt += 1
            assert "h264" in str(error)
    numbers += [read_number(picture.planes[0]) for picture in decoder.drain()]
    source.close()
    assert corrupt + len(numbers) >= 54
    assert numbers[-1] == 59


@pytest.mark.parametrize("size", [1023, 1024])
def test_a_forged_giant_is_refused_before_memory_is_taken_for_it(tmp_path, size):
    path = tmp_path / "giant.h264"
    path.write_bytes(giant_h264(size))
    code = (
        "import resource, sys; from tests.source.playing import play; "
        f"before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; seen = play({str(path)!r}); "
        "after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; "
        "print(len(seen.pictures), (after - before) // 1024)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[2]
    )
    assert result.returncode == 0, result.stderr
    pictures, megabytes = map(int, result.stdout.split())
    assert pictures == 0
    assert megabytes < 100, f"a picture of {size * 16} x {size * 16} would take 400 MB and more"


@pytest.mark.parametrize("form", ["png", "jpg"])
def test_a_picture_file_that_claims_to_be_a_giant_is_refused(form):
    data = bytearray(cv2.imencode(f".{form}", np.zeros((48, 64, 3), np.uint8))[1].tobytes())
    if form == "png":
        data[16:24] = struct.pack(">II", 60000, 60000)
        import zlib

        data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    else:
        start = data.index(b"\xff\xc0")
        data[start + 5 : start + 9] = struct.pack(">HH", 60000, 60000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CorruptPacketError):
        open_decoder(IMAGE, 1).decode(packet_of(bytes(data)))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tiff"])
def test_every_kind_of_picture_file_is_decoded(suffix):
    colour = np.zeros((48, 64, 3), np.uint8)
    colour[..., 2] = 200  # red, as OpenCV orders it
    data = cv2.imencode(suffix, colour)[1].tobytes()
    (picture,) = open_decoder(IMAGE, 1).decode(packet_of(data))
    luma, blue, red = (float(plane.mean()) for plane in picture.planes)
    scale, offset = (1.0, 0.0) if picture.colour.full_range else (219 / 255, 16.0)
    assert luma == pytest.approx(0.299 * 200 * scale + offset, abs=3)
    assert red > 200 and blue < 110
    assert picture.planes[0].shape == (48, 64)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_grey_picture_files_are_decoded(suffix):
    data = cv2.imencode(suffix, np.full((48, 64), 200, np.uint8))[1].tobytes()
    (picture,) = open_decoder(IMAGE, 1).decode(packet_of(data))
    luma = float(picture.planes[0].mean())
    assert (luma if picture.colour.full_range else (luma - 16) / 219 * 255) == pytest.approx(200, abs=2)
    assert float(picture.planes[1].mean()) == pytest.approx(128, abs=1)


def test_one_pictures_pixels_never_leak_into_the_next():
    decoder = open_decoder(IMAGE, 1)
    for _ in range(3):
        for value in (10, 200):
            (picture,) = decoder.decode(packet_of(png(value)))
            luma = float(picture.planes[0].mean())
            assert (luma if picture.colour.full_range else (luma - 16) / 219 * 255) == pytest.approx(value, abs=2)


@pytest.mark.parametrize(("orientation", "rotation"), [(1, 0), (6, 90), (3, 180), (8, 270)])
def test_the_camera_that_was_held_sideways_is_honoured(orientation, rotation):
    plain = cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1].tobytes()
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)
    exif = b"Exif\0\0" + tiff
    data = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:]
    (picture,) = open_decoder(IMAGE, 1).decode(packet_of(data))
    assert picture.rotation == rotation


@pytest.mark.parametrize("data", [b"", b"x", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"RIFF\0\0\0\0WEBPVP8 "])
def test_what_is_no_picture_is_a_corrupt_packet(data):
    with pytest.raises(CorruptPacketError):
        open_decoder(IMAGE, 1).decode(packet_of(data))


def test_a_live_decoder_holds_no_picture_back(tmp_path):
    plain = NumberedClip.make(tmp_path, fps=25, frames=20, b_frames=0)
    source = open_source(str(plain.path), SourceOptions(realtime=True), threading.Event())
    info = source.open()
    assert info.live
    decoder = open_decoder(info, 0)
    for index in range(10):
        pictures = decoder.decode(source.read())
        assert [read_number(picture.planes[0]) for picture in pictures] == [index]
    source.close()


@pytest.mark.parametrize(("codec", "layout"), [("mpeg2video", "yuv422p"), ("ffv1", "yuv444p"), ("libx264rgb", "rgb24")])
def test_codecs_and_layouts_of_other_cameras_play(tmp_path, codec, layout):
    values = (80, 100, 200) if layout != "rgb24" else (90,)
    options = {"qp": "0"} if codec == "libx264rgb" else {}
    path = tmp_path / "clip.mkv"
    try:
        path.write_bytes(encoded([flat_frame(layout, values) for _ in range(5)], codec, **options).read())
    except (av.error.FFmpegError, ValueError) as error:
        pytest.skip(f"this PyAV cannot encode {codec}: {error}")
    seen = play(path)
    assert len(seen.pictures) == 5
    if layout == "rgb24":
        assert float(seen.pictures[0].planes[1].mean()) == pytest.approx(128, abs=1)
    else:
        assert [round(float(plane.mean())) for plane in seen.pictures[0].planes] == pytest.approx(values, abs=2)
