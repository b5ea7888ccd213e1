"""Calibration pictures: from what the user has, spread over it, prepared as the pipeline prepares them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.inspect_model import read_model_spec
from engines.model_spec import ModelSpec
from pipeline.accuracy.calibration import calibration_from, evenly
from pipeline.accuracy.picture import read_picture
from pipeline.errors import InputError
from pipeline.preprocess.host import HostPreprocess
from tests.helpers.conv_onnx import conv_detector
from tests.helpers.cut_movie import cut_movie
from tests.helpers.onpace_process import REPOSITORY
from tests.helpers.recordings import recorded

CLIP = REPOSITORY / "samples" / "street.mp4"


@pytest.fixture
def spec(tmp_path) -> ModelSpec:
    return read_model_spec(conv_detector(tmp_path / "conv.onnx"))


@pytest.fixture
def folder(tmp_path) -> Path:
    """Ten pictures, each of one grey."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(10):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((48, 64, 3), 20 * number, np.uint8))
    return folder


def greys(spec, sources, count) -> list[int]:
    """Which pictures of ``folder`` were taken, by the grey in their middle."""
    calibration = calibration_from([str(source) for source in sources], spec, count)
    return [round(float(tensor[0, 0, 32, 32]) * 255 / 20) for tensor in calibration.tensors]


def test_pictures_are_spread_over_all_of_a_folder(spec, folder):
    assert greys(spec, [folder], 5) == [1, 3, 5, 7, 9]
    assert greys(spec, [folder], 99) == list(range(10))
    assert greys(spec, [folder / "[0-3].png"], 2) == [1, 3]


def test_several_sources_share_the_number(spec, folder):
    assert len(greys(spec, [folder, folder, CLIP], 7)) == 7


@pytest.mark.parametrize(("total", "wanted"), [(1, 1), (10, 3), (3, 10), (100, 100), (0, 5)])
def test_even_places_are_distinct_and_in_range(total, wanted):
    places = evenly(total, wanted)
    assert len(set(places)) == len(places) == min(total, wanted)
    assert all(0 <= place < total for place in places)


def test_pictures_are_what_the_pipeline_would_feed(spec, folder):
    (found,) = calibration_from([str(folder / "7.png")], spec, 1).tensors
    expected = np.zeros((1, 3, 64, 64), np.float32)
    HostPreprocess(spec, expected)(read_picture(folder / "7.png"), 0)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("pictures", [2, 40])  # keyframes are enough for 2; 40 need every picture decoded
def test_a_video_and_its_recording_give_pictures(spec, tmp_path, pictures):
    recording = recorded(str(CLIP), tmp_path / "recording")
    for source in (str(CLIP), f"recording:{recording}"):
        tensors = list(calibration_from([source], spec, pictures).tensors)
        assert len(tensors) == pictures
        assert all(tensor.std() > 0.05 and tensor.min() >= 0 and tensor.max() <= 1 for tensor in tensors)
        assert len({tensor.tobytes() for tensor in tensors}) == pictures


@pytest.mark.parametrize("pictures", [3, 40])
def test_a_movie_that_is_cut_off_gives_pictures_of_what_there_is(spec, tmp_path, pictures):
    found = calibration_from([str(cut_movie(tmp_path / "cut.mp4", share=0.5))], spec, pictures)
    assert found is not None
    # Of the last pictures before the cut, older versions of FFmpeg decode one less; 40 of 270 may miss their last.
    assert pictures - 1 <= len(list(found.tensors)) <= pictures


def test_a_folder_without_pictures_of_its_own_says_what_to_write(spec, tmp_path):
    recording = recorded(str(CLIP), tmp_path / "recording")
    with pytest.raises(InputError, match=rf"no pictures there\. It holds a recording: write recording:{recording}"):
        calibration_from([str(recording)], spec, 2)
    (tmp_path / "dataset" / "images").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "dataset" / "images" / "1.png"), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(InputError, match=r"dataset: no pictures there\. Check the path"):
        calibration_from([str(tmp_path / "dataset")], spec, 2)


def test_they_can_be_gone_through_again(spec, folder):
    calibration = calibration_from([str(folder)], spec, 3)
    first, second = list(calibration.tensors), list(calibration.tensors)
    np.testing.assert_array_equal(first, second)


def test_the_digest_changes_with_files_number_and_preparation(spec, folder, tmp_path):
    from dataclasses import replace

    def digest(count=3, of=spec, source=folder) -> str:
        return calibration_from([str(source)], of, count).digest

    first = digest()
    assert digest() == first
    assert digest(4) != first
    assert digest(of=replace(spec, pixels=replace(spec.pixels, order="bgr"))) != first
    os.utime(folder / "3.png", (1, 1))
    touched = digest()
    assert touched != first
    (folder / "9.png").unlink()
    assert digest() != touched
    assert digest(source=shutil.copytree(folder, tmp_path / "copy")) != digest()


def test_no_source_is_no_calibration(spec):
    assert calibration_from([], spec) is None


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("rtsp://user:secret@10.0.0.1/stream", "Record a camera first"),
        ("camera:0", "Record a camera first"),
        ("pattern:", "allowed are videos"),
        ("/nowhere/clip.mp4", "no such file"),
        ("", "calibration"),
    ],
)
def test_what_is_no_footage_is_refused(spec, source, said):
    with pytest.raises(InputError, match=said) as caught:
        calibration_from([source], spec)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_video_is_refused_when_it_is_read(spec, tmp_path):
    (tmp_path / "clip.mp4").write_text("no video")
    with pytest.raises(InputError, match="not a video file"):
        list(calibration_from([str(tmp_path / "clip.mp4")], spec).tensors)
