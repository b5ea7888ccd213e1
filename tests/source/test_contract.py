"""What every source of the table owes its caller."""

from __future__ import annotations

import threading

import cv2
import numpy as np
import pytest

from pipeline.errors import SourceError
from pipeline.frame import Packet, StreamInfo
from pipeline.source.source import SOURCES, SourceOptions, open_source
from tests.helpers.numbered_clip import NumberedClip
from tests.helpers.recordings import recorded
from tests.helpers.rtsp_server import RtspServer

MISSING = {
    "file": "file:/nonexistent/clip.mp4",
    "rtsp": "rtsp://127.0.0.1:1/x",
    "rtsps": "rtsps://127.0.0.1:1/x",
    "camera": "camera:997",
    "images": "images:/nonexistent/*.png",
    "recording": "recording:/nonexistent/door",
    "pattern": None,  # is never missing
}


@pytest.fixture(scope="module")
def working(tmp_path_factory):
    """An address a scheme that plays here. Cameras and TLS need hardware and certificates."""
    folder = tmp_path_factory.mktemp("contract")
    clip = NumberedClip.make(folder, fps=50, frames=30)
    pictures = folder / "pictures"
    pictures.mkdir()
    for number in range(4):
        cv2.imwrite(str(pictures / f"{number}.png"), np.zeros((32, 32, 3), np.uint8))
    with RtspServer() as server:
        camera = server.add_camera("cam", clip)
        yield {
            "file": str(clip.path),
            "rtsp": camera.url,
            "images": str(pictures),
            "pattern": "pattern:?frames=30",
            "recording": f"recording:{recorded(str(clip.path), folder / 'recorded')}",
        }


def source_of(working, scheme, stopping=None):
    if scheme not in working:
        pytest.skip(f"nothing to play: {scheme} needs a device or a certificate")
    return open_source(working[scheme], SourceOptions(), stopping or threading.Event())


def test_the_tables_of_this_test_are_complete():
    assert set(MISSING) == set(SOURCES)


@pytest.mark.parametrize("scheme", SOURCES)
def test_an_open_source_describes_itself_and_delivers_packets_with_times(working, scheme):
    source = source_of(working, scheme)
    info = source.open()
    first, second = source.read(), source.read()
    source.close()
    assert isinstance(info, StreamInfo)
    assert info.size.width > 0 and info.size.height > 0
    assert isinstance(first, Packet) and isinstance(second, Packet)
    for packet in (first, second):
        assert packet.captured_at <= packet.received_at
        assert packet.capture_utc > 1e9
    assert second.received_at >= first.received_at


@pytest.mark.parametrize("scheme", SOURCES)
def test_closing_twice_and_reading_afterwards_is_safe(working, scheme):
    source = source_of(working, scheme)
    source.open()
    source.close()
    source.close()
    assert source.read() is None


@pytest.mark.parametrize("scheme", SOURCES)
def test_closing_what_was_never_opened_is_safe(working, scheme):
    source_of(working, scheme).close()


@pytest.mark.parametrize("scheme", SOURCES)
def test_reading_ends_once_stopping_is_set(working, scheme):
    stopping = threading.Event()
    source = source_of(working, scheme, stopping)
    source.open()
    stopping.set()
    assert source.read() is None
    source.close()


@pytest.mark.parametrize("scheme", [scheme for scheme, url in MISSING.items() if url])
def test_what_is_not_there_fails_with_a_cause_and_can_be_closed(scheme):
    source = open_source(MISSING[scheme], SourceOptions(open_timeout_seconds=2.0), threading.Event())
    with pytest.raises(SourceError) as caught:
        source.open()
    assert caught.value.cause.value in ("not_found", "refused")
    assert caught.value.__cause__ is None
    source.close()
