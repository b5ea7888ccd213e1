"""When a camera's pictures were taken: by its own reports, by their arrival, and whatever our clock does."""

from __future__ import annotations

import threading
import time

import pytest

from pipeline.clock import SteadyUtc
from pipeline.source.address import parse_address
from pipeline.source.rtsp import RtspSource
from pipeline.source.source import SourceOptions
from tests.source.playing import play
from tests.source.test_rtsp import FAST, TRANSPORTS, numbers


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_cameras_sender_reports_date_the_pictures(server, clip, transport):
    camera = server.add_camera("cam", clip)
    seen = play(camera.url, transport=transport, most_packets=60, **FAST)
    assert {packet.capture_clock for packet in seen.packets} == {"rtcp"}
    taken = {picture.number: picture.wall_seconds for picture in reversed(camera.sent)}
    for number, picture in list(zip(numbers(seen), seen.pictures, strict=True))[:40]:
        assert picture.packet.capture_utc == pytest.approx(taken[number], abs=0.005)
        assert 0 <= picture.packet.received_at - picture.packet.captured_at < 1.0
    for packet in seen.packets:
        assert abs((time.time() - packet.capture_utc) - (time.monotonic() - packet.captured_at)) < 0.06


def test_a_camera_behind_the_times_is_believed_up_to_half_a_minute(server, clip):
    camera = server.add_camera("cam", clip)
    camera.set_clock(-5)
    seen = play(camera.url, most_packets=20, **FAST)
    assert {packet.capture_clock for packet in seen.packets} == {"rtcp"}
    assert all(5 <= packet.received_at - packet.captured_at < 6 for packet in seen.packets)


@pytest.mark.parametrize("offset", [5, 86400, -3600, -1.7e9])
def test_a_camera_with_an_absurd_clock_is_dated_by_arrival(server, clip, offset):
    camera = server.add_camera("cam", clip)
    camera.set_clock(offset)
    seen = play(camera.url, most_packets=10, **FAST)
    assert {packet.capture_clock for packet in seen.packets} == {"arrival"}
    assert all(packet.captured_at == packet.received_at for packet in seen.packets)
    assert all(abs(packet.capture_utc - time.time()) < 5 for packet in seen.packets)


def test_without_sender_reports_pictures_are_dated_by_arrival(server, clip):
    camera = server.add_camera("cam", clip, sender_reports=False)
    seen = play(camera.url, most_packets=10, **FAST)
    assert {packet.capture_clock for packet in seen.packets} == {"arrival"}


@pytest.mark.parametrize("step_seconds", [-3600.0, 7.0, 86400.0])
def test_a_step_of_our_system_clock_makes_no_picture_older_or_younger(server, clip, step_seconds):
    camera = server.add_camera("c", clip)
    stepped = {"by": 0.0}
    steady = SteadyUtc(read_utc=lambda: time.time() + stepped["by"])
    source = RtspSource(parse_address(camera.url), SourceOptions(), threading.Event(), steady)
    try:
        source.open()
        packets = []
        for number in range(60):
            stepped["by"] = step_seconds if number >= 30 else 0.0
            packets.append(source.read())
    finally:
        source.close()
    dated = [packet for packet in packets if packet.capture_clock == "rtcp"]
    assert len(dated) > 40
    assert all(0 <= packet.received_at - packet.captured_at < 1.0 for packet in dated)


def test_a_system_clock_that_is_set_right_is_believed_from_then_on(server, clip):
    camera = server.add_camera("c", clip)
    wrong = {"by": -86400.0}
    steady = SteadyUtc(read_utc=lambda: time.time() + wrong["by"])
    source = RtspSource(parse_address(camera.url), SourceOptions(), threading.Event(), steady)
    try:
        source.open()
        before = [source.read().capture_clock for _ in range(20)]
        wrong["by"] = 0.0
        after = [source.read().capture_clock for _ in range(20)]
    finally:
        source.close()
    assert set(before) == {"arrival"}
    assert set(after) == {"rtcp"}
