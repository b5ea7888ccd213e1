"""The numbers in the pixels: written, compressed, scaled, letterboxed, read."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from tests.helpers.numbered_clip import (
    NAL_PPS,
    NAL_SPS,
    Clip,
    NumberedClip,
    bits_of,
    nal_type,
    paint,
    read_number,
    split_annexb,
)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return tmp_path_factory.mktemp("clips")


def decoded(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]


def letterboxed(luma, height, width, border):
    """Scale to fit and centre, as a detector's preprocessing does."""
    scale = min(height / luma.shape[0], width / luma.shape[1])
    inner_height, inner_width = round(luma.shape[0] * scale), round(luma.shape[1] * scale)
    frame = av.VideoFrame.from_ndarray(luma, format="gray").reformat(inner_width, inner_height, "gray")
    result = np.full((height, width), border, np.uint8)
    top, left = (height - inner_height) // 2, (width - inner_width) // 2
    result[top : top + inner_height, left : left + inner_width] = frame.to_ndarray()
    return result


@pytest.mark.parametrize(("width", "height"), [(32, 16), (64, 48), (320, 192), (1280, 720)])
def test_every_number_reads_back(width, height):
    for number in range(0, 1024, 1 if width < 1000 else 37):
        assert read_number(paint(number, width, height)[:height]) == number


@pytest.mark.parametrize("b_frames", [0, 2])
def test_numbers_survive_compression_in_presentation_order(clips, b_frames):
    clip = NumberedClip.make(clips, frames=60, b_frames=b_frames)
    assert [read_number(luma) for luma in decoded(clip.path)] == list(range(60))


@pytest.mark.parametrize("border", [0, 16, 114, 255])
@pytest.mark.parametrize(("height", "width"), [(640, 640), (96, 160), (100, 300), (416, 417), (64, 64)])
def test_numbers_survive_letterboxing(clips, height, width, border):
    clip = NumberedClip.make(clips, frames=60)
    for number, luma in enumerate(decoded(clip.path)[::7]):
        assert read_number(letterboxed(luma, height, width, border)) == number * 7


def test_garbage_has_no_number():
    random = np.random.default_rng(1)
    pictures = [random.integers(0, 256, (192, 320), dtype=np.uint8) for _ in range(100)]
    pictures += [np.full((192, 320), value, np.uint8) for value in (0, 16, 128, 235, 255)]
    pictures += [np.zeros((0, 0), np.uint8), np.zeros((4, 4), np.uint8)]
    pictures += [np.tile(np.linspace(255, 0, 320).astype(np.uint8), (192, 1))]
    assert [read_number(picture) for picture in pictures] == [None] * len(pictures)


def test_a_wrong_block_is_noticed():
    for number in range(0, 1024, 13):
        for block in range(len(bits_of(number))):
            luma = paint(number, 320, 192)[:192].copy()
            span = luma[:24, block * 20 : block * 20 + 20]
            span[:] = 251 - span
            assert read_number(luma) is None


def test_a_clip_is_encoded_once(clips):
    first = NumberedClip.make(clips, frames=12)
    written = first.path.stat().st_mtime_ns
    again = NumberedClip.make(clips, frames=12)
    assert again == first
    assert again.path.stat().st_mtime_ns == written


def test_access_units_say_where_decoding_can_start(clips):
    clip = NumberedClip.make(clips, width=352, height=288, fps=12.5, frames=25, gop=10)
    assert (clip.width, clip.height, clip.fps, len(clip)) == (352, 288, 12.5, 25)
    assert [unit.number for unit in clip.units if unit.keyframe] == [0, 10, 20]
    assert [unit.number for unit in clip.units] == list(range(25))
    assert clip.reorder_pictures == 0
    assert [clip.next_keyframe(position) for position in (0, 1, 10, 21)] == [0, 10, 10, 0]
    assert (nal_type(clip.sps), nal_type(clip.pps)) == (NAL_SPS, NAL_PPS)
    assert all(tuple(split_annexb(unit.annexb())) == unit.nals for unit in clip.units)


def test_b_frames_are_sent_after_the_pictures_they_refer_to(clips):
    clip = NumberedClip.make(clips, frames=25, gop=10, b_frames=2)
    order = [unit.number for unit in clip.units]
    assert order[:4] == [0, 3, 1, 2]
    assert sorted(order) == list(range(25))
    assert clip.reorder_pictures == 2


def test_a_clip_that_cannot_be_made_says_why(clips):
    with pytest.raises(ValueError, match="1 to 1024 pictures, got 1025"):
        NumberedClip.make(clips, frames=1025)
    with pytest.raises(ValueError, match="got 33x20"):
        NumberedClip.make(clips, width=33, height=20)


def test_only_h264_is_loaded(clips):
    path = clips / "mpeg4.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(paint(1, 64, 48), format="yuv420p")))
        container.mux(stream.encode(None))
    with pytest.raises(ValueError, match="mpeg4 video; only h264"):
        Clip.load(path)
