"""The letterbox maps boxes there and back, and keeps the picture inside."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.frame import Size
from pipeline.letterbox import Letterbox

sizes = st.builds(Size, st.integers(1, 5000), st.integers(1, 5000))
targets = st.builds(Size, st.integers(32, 1280), st.integers(32, 1280))
placements = st.sampled_from(["centre", "top_left", "stretch"])
fractions = st.floats(0, 1, allow_nan=False, width=32)


@given(source=sizes, target=targets, placement=placements, corners=st.tuples(*[fractions] * 4))
def test_boxes_map_there_and_back_to_within_half_a_pixel(source, target, placement, corners):
    geometry = Letterbox.fit(source, target, placement)
    x = sorted((corners[0] * source.width, corners[2] * source.width))
    y = sorted((corners[1] * source.height, corners[3] * source.height))
    box = np.array([[x[0], y[0], x[1], y[1]]], np.float32)
    back = geometry.to_source(geometry.to_target(box))
    assert np.abs(back - box).max() <= 0.5


@given(source=sizes, target=targets, placement=placements)
def test_the_picture_lies_inside_the_target(source, target, placement):
    geometry = Letterbox.fit(source, target, placement)
    assert geometry.left >= 0
    assert geometry.top >= 0
    assert geometry.left + geometry.inner.width <= target.width
    assert geometry.top + geometry.inner.height <= target.height
    assert placement == "stretch" or geometry.inner.width == target.width or geometry.inner.height == target.height


@given(source=sizes, target=targets)
def test_the_aspect_is_kept_to_within_half_a_pixel(source, target):
    geometry = Letterbox.fit(source, target, "centre")
    scale = min(target.width / source.width, target.height / source.height)
    assert abs(geometry.inner.width - max(1, source.width * scale)) <= 0.51
    assert abs(geometry.inner.height - max(1, source.height * scale)) <= 0.51


def test_boxes_outside_the_picture_are_clipped_to_it():
    geometry = Letterbox.fit(Size(640, 360), Size(640, 640))
    boxes = geometry.to_source(np.array([[-10, 0, 700, 640]], np.float32))
    assert boxes.tolist() == [[0, 0, 640, 360]]


def test_an_empty_size_is_refused():
    with pytest.raises(ValueError, match="at least 1x1"):
        Letterbox.fit(Size(0, 10), Size(640, 640))
