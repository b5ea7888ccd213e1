"""Cameras of this machine. What needs one is skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import Cause
from tests.source.playing import play

CAMERAS = sorted(Path("/dev").glob("video*"))
needs_camera = pytest.mark.skipif(not CAMERAS, reason="no camera: there is no /dev/video* on this machine")


def test_a_camera_that_is_not_there_is_not_found_and_those_that_are_get_named():
    seen = play("camera:997")
    assert seen.error is not None and seen.error.cause is Cause.NOT_FOUND
    assert "/dev/video997" in str(seen.error)
    assert (str(CAMERAS[0]) if CAMERAS else "Present: none") in str(seen.error)


@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero"])
def test_a_device_that_is_no_camera_is_unsupported(device):
    seen = play(f"camera:{device}")
    assert seen.error is not None and seen.error.cause is Cause.UNSUPPORTED


@needs_camera
def test_a_camera_delivers_pictures_as_they_are_taken():
    seen = play(f"camera:{CAMERAS[0]}", most_packets=10)
    assert seen.error is None
    assert seen.info is not None and seen.info.live
    assert len(seen.pictures) >= 8
    assert {packet.capture_clock for packet in seen.packets} == {"arrival"}


@needs_camera
def test_a_camera_can_be_closed_and_opened_again():
    for _ in range(2):
        assert play(f"camera:{CAMERAS[0]}", most_packets=2).error is None
