"""Cameras of this room: an RTSP server of our own, and a clip whose pictures are numbered."""

from __future__ import annotations

import pytest

from tests.helpers.numbered_clip import NumberedClip
from tests.helpers.rtsp_server import RtspServer

FPS = 100


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="module")
def clip(clips):
    return NumberedClip.make(clips, fps=FPS, frames=50)


@pytest.fixture
def server():
    with RtspServer() as running:
        yield running
