"""Planes: the codec's own buffers where possible, the right values and the right meaning always."""

from __future__ import annotations

import subprocess
import sys

import av
import numpy as np
import pytest

from pipeline.decode.planes import to_planes
from tests.decode.streams import encoded, flat_frame
from tests.helpers.test_data import test_data
from tests.source.playing import play


def values(planes):
    assert all(plane.min() == plane.max() for plane in planes)
    return [int(plane[0, 0]) for plane in planes]


@pytest.mark.parametrize(
    ("layout", "chroma"),
    [
        ("yuv420p", (24, 32)),
        ("yuvj420p", (24, 32)),
        ("yuv422p", (48, 32)),
        ("yuvj422p", (48, 32)),
        ("yuv444p", (48, 64)),
        ("yuvj444p", (48, 64)),
    ],
)
def test_eight_bit_planar_layouts_are_views_of_the_decoders_memory(layout, chroma):
    frame = flat_frame(layout, (80, 100, 200))
    planes, colour, owner = to_planes(frame)
    assert values(planes) == [80, 100, 200]
    assert [plane.shape for plane in planes] == [(48, 64), chroma, chroma]
    assert [plane.ctypes.data for plane in planes] == [plane.buffer_ptr for plane in frame.planes]
    assert owner is frame
    assert colour.full_range == layout.startswith("yuvj")


def test_padded_rows_are_left_out_and_odd_sizes_keep_their_last_chroma():
    planes, _, _ = to_planes(flat_frame("yuv420p", (80, 100, 200), width=99, height=35))
    assert [plane.shape for plane in planes] == [(35, 99), (18, 50), (18, 50)]
    assert values(planes) == [80, 100, 200]
    assert planes[0].strides[0] >= 99


@pytest.mark.parametrize(
    ("layout", "stored", "expected"),
    [
        ("yuv420p10le", (300, 700, 200), (75, 175, 50)),
        ("yuv422p10le", (300, 700, 200), (75, 175, 50)),
        ("yuv444p10le", (300, 700, 200), (75, 175, 50)),
        ("yuv420p12le", (1200, 2800, 800), (75, 175, 50)),
        ("yuva420p", (75, 175, 50, 255), (75, 175, 50)),
        ("yuv411p", (75, 175, 50), (75, 175, 50)),
        ("yuv410p", (75, 175, 50), (75, 175, 50)),
    ],
)
@pytest.mark.parametrize("matrix", [0, 1, 2, 5, 6, 9, 10])
@pytest.mark.parametrize("colour_range", [1, 2])
def test_other_yuv_layouts_are_narrowed_and_never_recoloured(layout, stored, expected, matrix, colour_range):
    frame = flat_frame(layout, stored)
    frame.colorspace, frame.color_range = matrix, colour_range
    planes, colour, _ = to_planes(frame)
    for plane, value in zip(planes, expected, strict=True):
        assert np.abs(plane.astype(int) - value).max() <= 1
    assert [plane.shape for plane in planes] == [(48, 64), (24, 32), (24, 32)]
    assert colour.full_range == (colour_range == 2)
    assert colour.matrix == {1: "bt709", 9: "bt2020", 10: "bt2020"}.get(matrix, "bt601")


def test_interleaved_chroma_is_taken_apart():
    frame = av.VideoFrame.from_ndarray(
        np.concatenate([np.full(48 * 64, 75), np.tile([175, 50], 24 * 32)]).astype(np.uint8).reshape(72, 64), "nv12"
    )
    assert values(to_planes(frame)[0]) == [75, 175, 50]


@pytest.mark.parametrize("layout", ["rgb24", "bgr24", "rgba", "gbrp", "bgr0"])
@pytest.mark.parametrize("colour_range", [0, 1, 2])
@pytest.mark.parametrize("matrix", [0, 1, 2])
def test_rgb_keeps_its_sharpness_and_says_how_it_became_yuv(layout, colour_range, matrix):
    red = np.zeros((48, 64, 3), np.uint8)
    red[..., 0] = 255
    frame = av.VideoFrame.from_ndarray(red, "rgb24").reformat(format=layout)
    frame.colorspace, frame.color_range = matrix, colour_range
    planes, colour, _ = to_planes(frame)
    assert [plane.shape for plane in planes] == [(48, 64)] * 3
    assert colour.matrix == "bt601"
    assert values(planes) == pytest.approx([76, 85, 255] if colour.full_range else [81, 90, 240], abs=1)


@pytest.mark.parametrize("colour_range", [0, 1, 2])
def test_grey_becomes_luma_without_colour(colour_range):
    frame = flat_frame("gray", (255,))
    frame.color_range = colour_range
    planes, colour, _ = to_planes(frame)
    assert values(planes) == [255 if colour.full_range else 235, 128, 128]


@pytest.mark.parametrize(("height", "matrix"), [(718, "bt601"), (720, "bt709")])
def test_an_unsaid_matrix_is_guessed_by_height(height, matrix):
    colour = to_planes(flat_frame("yuv420p", (80, 100, 200), 64, height))[1]
    assert (colour.matrix, colour.full_range) == (matrix, False)


@pytest.mark.parametrize(
    ("name", "matrix", "full_range"),
    [
        ("asl_walk.mkv", "bt601", True),
        ("person_mjpeg.avi", "bt601", True),
        ("av1_testcard.mkv", "bt709", False),
        ("park_hevc_10bit.mkv", "bt2020", False),
        ("restaurant_720p.mp4", "bt709", False),
        ("car-detection.mp4", "bt601", False),
    ],
)
def test_videos_say_what_their_colours_mean(name, matrix, full_range):
    picture = play(test_data() / "videos" / name, most_packets=12).pictures[0]
    assert (picture.colour.matrix, picture.colour.full_range) == (matrix, full_range)


def test_ten_bit_video_is_the_same_picture_in_eight_bits():
    path = test_data() / "videos/park_hevc_10bit.mkv"
    seen = play(path, most_packets=30)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    for plane, ten_bit in zip(seen.pictures[0].planes, frame.planes, strict=True):
        wide = np.frombuffer(ten_bit, np.uint16).reshape(ten_bit.height, -1)[:, : ten_bit.width]
        assert plane.shape == wide.shape
        assert np.abs(plane.astype(int) - wide / 4).max() <= 1.5


def test_rotation_agrees_with_the_display_matrix():
    seen = play(test_data() / "videos/rotation_90.mp4")
    # FFmpeg's own players turn this file by 90 degrees anticlockwise.
    assert {picture.rotation for picture in seen.pictures} == {270}
    assert set(seen.sizes) == {(848, 464)}


def test_turned_by_its_rotation_the_picture_is_the_one_ffmpeg_shows(tmp_path):
    path = test_data() / "videos/rotation_90.mp4"
    picture = play(path).pictures[0]
    shown = tmp_path / "shown.gray"
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-frames:v", "1", "-pix_fmt", "yuv420p", "-f", "rawvideo"]
    try:
        subprocess.run([*command, str(shown)], check=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("the ffmpeg command is not installed")
    upright = np.rot90(picture.planes[0], -picture.rotation // 90)
    expected = np.frombuffer(shown.read_bytes(), np.uint8)[: upright.size].reshape(upright.shape)
    assert np.abs(upright.astype(int) - expected).mean() < 1


def test_planes_outlive_the_decoder_and_the_source(tmp_path):
    buffer = encoded([flat_frame("yuv420p", (50 + 10 * n, 100, 200)) for n in range(10)], "ffv1")
    path = tmp_path / "clip.mkv"
    path.write_bytes(buffer.read())
    pictures = play(path).pictures
    churn = [np.ones((48, 64), np.uint8) for _ in range(1000)]
    assert [values(picture.planes)[0] for picture in pictures] == [50 + 10 * n for n in range(10)]
    assert len(churn) == 1000


def test_the_rooms_need_no_inference_library():
    code = (
        "import sys, pipeline.decode.pyav, pipeline.decode.image, pipeline.source.rtsp, pipeline.source.camera\n"
        "sys.exit(any(name in sys.modules for name in ('onnxruntime', 'torch', 'tensorrt', 'zmq')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
