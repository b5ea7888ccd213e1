"""The letterbox kernel, compiled for the host, agrees with the host's definition of preprocessing."""

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.decode.planes import to_planes
from pipeline.frame import Colour, Frame
from pipeline.preprocess.device import PICTURE
from pipeline.preprocess.host import HostPreprocess
from tests.helpers.test_data import test_data
from tests.preprocess.device_pictures import interleaved, letterboxed
from tests.preprocess.test_host import COLOURS, frame_of, noise_planes, spec_of
from tests.source.playing import play

LEVEL = 1 / 255
ROUNDING = {"float32": 1e-6, "float16": 2**-11}


def on_host(spec, frames, dtype="float32"):
    tensor = np.full((len(frames), 3, spec.input_height, spec.input_width), np.nan, dtype)
    preprocess = HostPreprocess(spec, tensor)
    for row, frame in enumerate(frames):
        preprocess(frame, row)
    return tensor


def agrees(spec, frames, dtype="float32", **device):
    expected = on_host(spec, frames, dtype).astype(np.float32)
    found = letterboxed(spec, frames, dtype, **device).astype(np.float32)
    step = LEVEL * 255 * spec.pixels.scale / min(spec.pixels.deviation)
    assert np.abs(found - expected).max() <= step * 1.001 + ROUNDING[dtype] * max(1.0, 255 * spec.pixels.scale)
    # OpenCV's colour matrix has 10 bits of fraction: what lies between two levels may go either way.
    assert found.size < 10_000 or (np.abs(found - expected) > step / 2).mean() < 0.06


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("size", [(640, 360), (360, 640), (99, 35), (1279, 719)], ids=str)
def test_agrees_on_every_layout_in_every_orientation(size, rotation):
    spec = spec_of(160, 128)
    frames = [frame_of(noise_planes(*size, seed), COLOURS[seed], rotation) for seed in range(6)]
    agrees(spec, frames)
    surfaces = [interleaved(frame.planes, pitch_padding=13) for frame in frames]
    agrees(spec, frames, surfaces=surfaces, layout="nv12")


@settings(max_examples=30, deadline=None)
@given(
    width=st.integers(2, 700),
    height=st.integers(2, 700),
    chroma=st.sampled_from([1, 2]),
    target=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    placement=st.sampled_from(["centre", "top_left", "stretch"]),
    order=st.sampled_from(["rgb", "bgr"]),
)
def test_agrees_on_any_size_shrunk_or_enlarged(width, height, chroma, target, placement, order):
    spec = spec_of(*target, placement=placement, order=order)
    agrees(spec, [frame_of(noise_planes(width, height, width, chroma))])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    "pixels",
    [
        {"scale": 1.0},
        {"scale": 1.0, "mean": (103.53, 116.28, 123.675), "deviation": (57.375, 57.12, 58.395), "order": "bgr"},
        {"mean": (0.485, 0.456, 0.406), "deviation": (0.229, 0.224, 0.225)},
    ],
    ids=["0-255", "mean-255", "mean-1"],
)
def test_agrees_on_what_models_want_of_pixels(pixels, dtype):
    agrees(spec_of(64, 48, **pixels), [frame_of(noise_planes(123, 77)), frame_of(noise_planes(64, 48))], dtype)


@pytest.mark.parametrize("size", [(64, 48), (33, 21)], ids=str)
def test_ten_bits_become_eight_as_on_the_host(size):
    wide = [plane.astype(np.uint16) * 4 + index for index, plane in enumerate(noise_planes(*size))]
    source = av.VideoFrame(*size, "yuv420p10le")
    for plane, values in zip(source.planes, wide, strict=True):
        rows = np.zeros((plane.height, plane.line_size // 2), np.uint16)
        rows[:, : plane.width] = values
        plane.update(rows.tobytes())
    planes, _, _owner = to_planes(source)
    frame = frame_of(planes, Colour("bt2020", False))
    surfaces = [interleaved(wide, pitch_padding=7, wide=True)]
    agrees(spec_of(100, 80), [frame], surfaces=surfaces, layout="p010")


@pytest.mark.parametrize("target", [(640, 640), (1931, 1277), (1083, 1925)], ids=str)
@pytest.mark.parametrize("name", ["park_hevc_10bit.mkv", "restaurant_720p.mp4", "person_mjpeg.avi", "rotation_90.mp4"])
def test_agrees_on_real_frames_shrunk_or_enlarged(name, target):
    pictures = play(test_data() / "videos" / name, most_packets=12).pictures[:2]
    frames = [Frame("s", 1, 0, p.planes, p.colour, p.rotation, 0.0, 0.0, 0.0, 0.0, "file", 0.0) for p in pictures]
    agrees(spec_of(*target), frames)
    agrees(spec_of(*target), frames, "float16")


def test_pictures_lie_as_the_kernel_reads_them():
    assert PICTURE.itemsize == 7 * 8 + 12 * 4 + 18 * 4
    assert PICTURE.fields["pitches"][1] == 56
    assert PICTURE.fields["matrix"][1] == 56 + 12 * 4
