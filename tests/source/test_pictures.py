"""Picture folders and the synthetic pattern."""

from __future__ import annotations

import shutil
import time

import cv2
import numpy as np
import pytest

from pipeline.errors import Cause, UrlError
from pipeline.source.pattern import read_index
from tests.helpers.test_data import test_data
from tests.source.playing import opened, play


@pytest.fixture
def folder(tmp_path):
    """Pictures 1 to 12, each as bright as its number says."""
    for number in range(1, 13):
        cv2.imwrite(str(tmp_path / f"shot{number}.png"), np.full((32, 48, 3), number * 20, np.uint8))
    (tmp_path / "notes.txt").write_text("not a picture")
    return tmp_path


def brightness(picture):
    luma = float(picture.planes[0].mean())
    return round((luma if picture.colour.full_range else (luma - 16) / 219 * 255) / 20)


@pytest.mark.parametrize("form", ["{}", "{}/*.png", "images:{}", "images:{}/shot*.png", "images:{}/**/*.png"])
def test_pictures_come_in_the_order_people_count(folder, form):
    seen = play(form.format(folder))
    assert [brightness(picture) for picture in seen.pictures] == list(range(1, 13))
    assert [packet.pts_seconds for packet in seen.packets] == list(range(12))
    assert seen.info.size == (48, 32)
    assert not seen.info.live


def test_the_rate_of_pictures_can_be_asked_for_and_is_kept_in_real_time(folder):
    started = time.monotonic()
    seen = play(f"images:{folder}#fps=50", realtime=True)
    assert len(seen.pictures) == 12
    assert 11 / 50 <= time.monotonic() - started < 1.0
    assert seen.packets[-1].captured_at - seen.packets[0].captured_at == pytest.approx(11 / 50, abs=0.002)


def test_one_picture_is_a_source_too(folder):
    assert len(play(folder / "shot3.png").pictures) == 1


def test_a_picture_that_cannot_be_read_is_counted_and_the_rest_comes(folder):
    (folder / "shot2.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"broken")
    (folder / "shot4.png").write_bytes(b"")
    (folder / "shot6.png").write_bytes(b"no picture at all")
    seen = play(folder)
    assert (len(seen.pictures), seen.corrupt, len(seen.packets)) == (9, 3, 12)


@pytest.mark.parametrize("form", ["images:{}", "images:{}/*.jpg", "images:{}/none"])
def test_no_pictures_is_not_found(tmp_path, form):
    (tmp_path / "notes.txt").write_text("not a picture")
    seen = play(form.format(tmp_path))
    assert seen.error.cause is Cause.NOT_FOUND


def test_all_labelled_pictures_play():
    seen = play(test_data() / "images/coco_val2017_128/images")
    assert len(seen.pictures) == 128
    assert seen.corrupt == 0


def test_a_picture_named_with_glob_letters_is_found(tmp_path, folder):
    odd = tmp_path / "shot[1].png"
    shutil.copy(folder / "shot5.png", odd)
    assert len(play(odd).pictures) == 1


@pytest.mark.parametrize("size", ["640x360", "64x64", "65x99", "1279x719"])
def test_every_pattern_picture_carries_its_number(size):
    seen = play(f"pattern:?size={size}&frames=60&seed=5")
    assert [read_index(picture.planes[0]) for picture in seen.pictures] == list(range(60))
    width, height = map(int, size.split("x"))
    assert set(seen.sizes) == {(width, height)}
    assert {picture.planes[1].shape for picture in seen.pictures} == {((height + 1) // 2, (width + 1) // 2)}
    assert [packet.pts_seconds for packet in seen.packets] == pytest.approx([index / 25 for index in range(60)])


def test_the_same_seed_draws_the_same_and_another_does_not():
    first, again, other = (play(f"pattern:?frames=3&seed={seed}").pictures[2].planes for seed in (1, 1, 2))
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_the_pattern_moves():
    pictures = play("pattern:?frames=26").pictures
    assert (pictures[0].planes[0] != pictures[25].planes[0]).mean() > 0.01


def test_a_blank_picture_carries_no_number():
    assert read_index(np.full((360, 640), 100, np.uint8)) is None
    assert read_index(np.full((360, 640), 16, np.uint8)) is None


def test_a_paced_pattern_is_live_and_on_time():
    seen = play("pattern:?fps=100&frames=21", realtime=True)
    assert seen.info.live
    assert seen.packets[-1].captured_at - seen.packets[0].captured_at == pytest.approx(0.2, abs=0.002)


def test_the_pattern_is_cheap_enough_to_stand_for_several_cameras():
    source = opened("pattern:?size=640x360")
    source.open()
    started = time.process_time()
    for _ in range(200):
        source.read()
    assert 200 / (time.process_time() - started) >= 500
    source.close()


def test_a_pattern_too_small_for_its_number_is_refused():
    with pytest.raises(UrlError, match="64 to 8192"):
        opened("pattern:?size=32x32")
