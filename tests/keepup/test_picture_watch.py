"""Frozen and black pictures are told from still, noisy and dark ones, raw and through a real codec."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from pipeline.keepup.picture_watch import PictureWatch, sample_of

WIDTH, HEIGHT, FPS = 320, 192, 10

Luma = Any
RANDOM = np.random.default_rng(7)
SCENE = (
    90 + 60 * np.sin(np.linspace(0, 9, WIDTH))[None, :] * np.cos(np.linspace(0, 7, HEIGHT))[:, None]
) + RANDOM.normal(0, 12, (HEIGHT, WIDTH))


def seen(watch: PictureWatch, luma: Luma, now: float, keyframe: bool) -> bool:
    """Let the watch see a picture as capture does; return whether its state changed."""
    if not watch.wants(now, keyframe=keyframe):
        return False
    return watch.look(sample_of((luma, luma, luma)), now, keyframe=keyframe, full_range=False)


def frozen(index: int) -> Luma:
    return SCENE.clip(16, 235).astype(np.uint8)


def noisy(sigma: float) -> Callable[[int], Luma]:
    def picture(index: int) -> Luma:
        noise = np.random.default_rng(index).normal(0, sigma, SCENE.shape)
        return (SCENE + noise).round().clip(16, 235).astype(np.uint8)

    return picture


def with_clock(index: int) -> Luma:
    """A frozen scene with a digit that changes each second: the camera lives."""
    luma = frozen(index).copy()
    digit = np.random.default_rng(index // FPS).integers(0, 2, (4, 3)).repeat(5, 0).repeat(5, 1)
    luma[20:40, 20:35] = np.where(digit, 235, 16)
    return luma


def moving(index: int) -> Luma:
    luma = frozen(index).copy()
    left = (index * 4) % (WIDTH - 40)
    luma[100:140, left : left + 40] = 220
    return luma


def black(index: int) -> Luma:
    luma = np.full((HEIGHT, WIDTH), 16, np.uint8)
    luma[10:26, 10:60] = 200  # the camera's clock
    return luma


def dark(index: int) -> Luma:
    noise = np.random.default_rng(index).normal(26, 4, (HEIGHT, WIDTH))
    return noise.round().clip(16, 235).astype(np.uint8)


def raw(picture: Callable[[int], Luma], seconds: int) -> Iterator[tuple[Luma, bool]]:
    for index in range(seconds * FPS):
        yield picture(index), True


def coded(picture: Callable[[int], Luma], seconds: int, gop: int, crf: int) -> Iterator[tuple[Luma, bool]]:
    """Each picture after x264, as a camera would send it."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    encoder.time_base, encoder.gop_size = Fraction(1, FPS), gop
    encoder.options = {"preset": "veryfast", "tune": "zerolatency", "crf": str(crf)}
    decoder = av.CodecContext.create("h264", "r")
    for index in range(seconds * FPS):
        frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
        frame.planes[0].update(_padded(picture(index), frame.planes[0].line_size))
        for plane in frame.planes[1:]:
            plane.update(bytes([128]) * plane.buffer_size)
        frame.pts = index
        for packet in encoder.encode(frame):
            for decoded in decoder.decode(packet):
                plane = decoded.planes[0]
                luma = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:HEIGHT, :WIDTH].copy()
                yield luma, packet.is_keyframe


def _padded(luma: Luma, line_size: int) -> bytes:
    padded = np.zeros((HEIGHT, line_size), np.uint8)
    padded[:, :WIDTH] = luma
    return padded.tobytes()


def states(pictures: Iterator[tuple[Luma, bool]]) -> list[tuple[float, str]]:
    """``(seconds, state)`` of every change."""
    watch, changes = PictureWatch(), []
    for index, (luma, keyframe) in enumerate(pictures):
        if seen(watch, luma, 1000 + index / FPS, keyframe):
            changes.append((index / FPS, watch.state))
    return changes


@pytest.mark.parametrize("gop", [10, 25])
@pytest.mark.parametrize("crf", [20, 32])
def test_a_camera_that_sends_the_same_picture_again_and_again_is_frozen(gop: int, crf: int) -> None:
    [(seconds, state)] = states(coded(frozen, 18, gop, crf))
    assert state == "frozen"
    assert 10 <= seconds < 18


def test_a_frozen_picture_is_noticed_after_ten_seconds_and_its_return_at_once() -> None:
    def hangs(index: int) -> Luma:
        return moving(min(index, 50) if index < 200 else index)

    (froze, first), (moved, second) = states(raw(hangs, 25))
    assert (first, second) == ("frozen", "")
    assert 15 <= froze <= 15.6
    assert 20 <= moved <= 20.6


@pytest.mark.parametrize("sigma", [0.7, 1.5, 4.0])
def test_a_still_scene_with_sensor_noise_is_not_frozen(sigma: float) -> None:
    assert states(raw(noisy(sigma), 20)) == []


@pytest.mark.parametrize("sigma", [1.5, 4.0])
@pytest.mark.parametrize(("gop", "crf"), [(10, 20), (25, 26), (25, 32)])
def test_noise_that_a_codec_smooths_is_still_noise(sigma: float, gop: int, crf: int) -> None:
    assert states(coded(noisy(sigma), 20, gop, crf)) == []


def test_a_clock_in_the_picture_or_one_moving_thing_is_life() -> None:
    assert states(coded(with_clock, 20, 10, 26)) == []
    assert states(coded(moving, 20, 25, 26)) == []


def test_a_stream_of_few_keyframes_is_not_called_frozen_before_three_were_seen() -> None:
    assert states(coded(frozen, 16, 1000, 26)) == []


def test_black_pictures_are_noticed_after_five_seconds_and_light_at_once() -> None:
    def covered(index: int) -> Luma:
        return moving(index) if index >= 100 else black(index)

    (dark_at, first), (light_at, second) = states(raw(covered, 15))
    assert (first, second) == ("black", "")
    assert 5 <= dark_at <= 5.3
    assert 10 <= light_at <= 10.6


def test_a_dark_noisy_scene_is_neither_black_nor_frozen() -> None:
    assert states(raw(dark, 20)) == []
    assert states(coded(dark, 20, 25, 28)) == []


def test_looking_costs_next_to_nothing() -> None:
    import time

    watch, luma = PictureWatch(), np.zeros((1080, 1920), np.uint8)
    started = time.perf_counter()
    for index in range(3000):
        seen(watch, luma, index / 30, index % 30 == 0)
    assert (time.perf_counter() - started) / 3000 < 100e-6
