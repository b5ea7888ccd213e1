"""The host preprocessing agrees with the arithmetic that its docstring states."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.model_spec import ModelSpec, PixelSpec, TensorSpec
from pipeline.frame import Colour, Frame, Size
from pipeline.letterbox import Letterbox
from pipeline.preprocess.host import HostPreprocess, yuv_to_rgb

LIMITED_601 = Colour("bt601", False)
COLOURS = [Colour(matrix, full) for matrix in ("bt601", "bt709", "bt2020") for full in (False, True)]


def spec_of(width=416, height=416, **pixels) -> ModelSpec:
    return ModelSpec(
        name="m",
        sha256="0" * 64,
        family="yolov8",
        image_input=TensorSpec("images", "float32", (None, 3, height, width)),
        input_width=width,
        input_height=height,
        max_batch=None,
        outputs=(),
        class_names=(),
        pixels=PixelSpec(**pixels),
    )


def frame_of(planes, colour=LIMITED_601, rotation=0) -> Frame:
    return Frame("s", 1, 0, tuple(planes), colour, rotation, 0.0, 0.0, 0.0, 0.0, "file", 0.0)


def noise_planes(width, height, seed=0, chroma=2):
    rng = np.random.default_rng(seed)

    def plane(w, h):
        coarse = rng.integers(16, 236, (max(2, h // 16), max(2, w // 16)), np.uint8)
        return cv2.resize(coarse, (w, h), interpolation=cv2.INTER_CUBIC)

    small = (-(-width // chroma), -(-height // chroma))
    return plane(width, height), plane(*small), plane(*small)


def definition(frame, spec):
    """The docstring's four steps in float64."""
    geometry = Letterbox.fit(frame.size, Size(spec.input_width, spec.input_height), spec.pixels.placement)
    inner = geometry.inner
    lying = frame.rotation in (90, 270)
    size = (inner.height, inner.width) if lying else (inner.width, inner.height)
    planes = [cv2.resize(p.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) for p in frame.planes]
    planes = [np.rot90(p, -frame.rotation // 90) for p in planes]
    matrix = yuv_to_rgb(frame.colour).astype(np.float64)
    rgb = np.clip(np.einsum("cp,phw->chw", matrix[:, :3], np.stack(planes)) + matrix[:, 3, None, None], 0, 255)
    if spec.pixels.order == "bgr":
        rgb = rgb[::-1]
    out = np.full((3, spec.input_height, spec.input_width), float(spec.pixels.pad_value))
    out[:, geometry.top : geometry.top + inner.height, geometry.left : geometry.left + inner.width] = rgb
    mean = np.array(spec.pixels.mean)[:, None, None]
    deviation = np.array(spec.pixels.deviation)[:, None, None]
    return (out * spec.pixels.scale - mean) / deviation


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_agrees_with_the_definition_in_every_colour_and_orientation(colour, rotation):
    spec = spec_of(scale=1.0)
    frame = frame_of(noise_planes(640, 360), colour, rotation)
    tensor = np.full((1, 3, 416, 416), np.nan, np.float32)
    HostPreprocess(spec, tensor)(frame, 0)
    assert np.abs(tensor[0] - definition(frame, spec)).max() <= 3.0  # three planes, each rounded to a whole number
    assert np.abs(tensor[0] - definition(frame, spec)).mean() <= 0.6


@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(2, 900),
    height=st.integers(2, 900),
    placement=st.sampled_from(["centre", "top_left", "stretch"]),
    order=st.sampled_from(["rgb", "bgr"]),
)
def test_any_size_fills_the_whole_tensor_as_the_model_asks(width, height, placement, order):
    spec = spec_of(
        320, 192, placement=placement, order=order, mean=(0.485, 0.456, 0.406), deviation=(0.229, 0.224, 0.225)
    )
    frame = frame_of(noise_planes(width, height, seed=width * height))
    tensor = np.full((2, 3, 192, 320), np.nan, np.float32)
    geometry = HostPreprocess(spec, tensor)(frame, 1)
    assert geometry.source == Size(width, height)
    assert np.isnan(tensor[0]).all()
    assert np.abs(tensor[1] - definition(frame, spec)).max() <= 4 / 255 / 0.224


@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
def test_white_black_and_primaries_come_out_right(matrix):
    to_rgb = yuv_to_rgb(Colour(matrix, False)).astype(np.float64)
    assert to_rgb @ [235, 128, 128, 1] == pytest.approx([255, 255, 255], abs=0.01)
    assert to_rgb @ [16, 128, 128, 1] == pytest.approx([0, 0, 0], abs=0.01)
    full = yuv_to_rgb(Colour(matrix, True)).astype(np.float64)
    kr, kb = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}[matrix]
    red = [255 * kr, 128 + 127.5 * -kr / (1 - kb), 128 + 127.5, 1]
    assert full @ red == pytest.approx([255, 0, 0], abs=0.01)


def test_padding_is_repainted_when_the_picture_changes_size():
    spec = spec_of(scale=1.0)
    tensor = np.zeros((1, 3, 416, 416), np.float32)
    preprocess = HostPreprocess(spec, tensor)
    preprocess(frame_of(noise_planes(360, 640)), 0)
    wide = frame_of(noise_planes(640, 360))
    preprocess(wide, 0)
    assert np.abs(tensor[0] - definition(wide, spec)).max() <= 3.0
    assert (tensor[0, :, :80] == 114).all()


def test_half_precision_tensors_are_filled_too():
    spec = spec_of()
    frame = frame_of(noise_planes(848, 464))
    tensor = np.zeros((1, 3, 416, 416), np.float16)
    HostPreprocess(spec, tensor)(frame, 0)
    assert np.abs(tensor[0].astype(np.float64) - definition(frame, spec)).max() <= 4 / 255


def test_planes_with_padded_rows_and_any_subsampling_are_read_in_place():
    spec = spec_of(scale=1.0)
    y, u, v = noise_planes(640, 360, chroma=1)
    padded = np.zeros((360, 704), np.uint8)
    padded[:, :640] = y
    tensor = np.zeros((2, 3, 416, 416), np.float32)
    preprocess = HostPreprocess(spec, tensor)
    preprocess(frame_of((padded[:, :640], u, v)), 0)
    preprocess(frame_of((y, u, v)), 1)
    assert (tensor[0] == tensor[1]).all()
