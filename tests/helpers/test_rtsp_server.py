"""The test server, played by the real client: FFmpeg through PyAV."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from itertools import pairwise

import av
import pytest

from tests.helpers.numbered_clip import NumberedClip
from tests.helpers.rtsp_camera import Camera
from tests.helpers.rtsp_player import Player, opened, play, sent_in_order
from tests.helpers.rtsp_process import COMMANDS, REPOSITORY, RtspServerProcess
from tests.helpers.rtsp_server import RtspServer

FPS = 120
TRANSPORTS = ("tcp", "udp")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="module")
def clip(clips):
    return NumberedClip.make(clips, fps=FPS, frames=40)


@pytest.fixture
def server():
    with RtspServer() as running:
        yield running


@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_every_picture_sent_is_decoded_in_order(server, clips, transport, b_frames):
    clip = NumberedClip.make(clips, fps=FPS, frames=40, b_frames=b_frames)
    camera = server.add_camera("cam", clip, frames=70)
    seen = play(camera.url, transport)
    assert seen.error is None
    assert seen.numbers == [*range(40), *range(30)] if b_frames == 0 else seen.numbers[:40] == list(range(40))
    assert seen.numbers == sent_in_order(camera)
    assert [picture.index for picture in camera.sent] == list(range(70))
    assert len({picture.session_id for picture in camera.sent}) == 1


def test_large_pictures_are_split_and_small_ones_are_not(server, clips):
    clip = NumberedClip.make(clips, width=640, height=480, fps=FPS, frames=20)
    sizes = [len(nal) for unit in clip.units for nal in unit.nals]
    camera = server.add_camera("cam", clip, frames=20, largest_payload=900)
    assert min(sizes) < 900 < max(sizes)
    assert play(camera.url).numbers == list(range(20))


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("offset", [0.0, 86_400.0])
def test_packets_carry_the_cameras_wall_time(server, clip, transport, offset):
    camera = server.add_camera("cam", clip, frames=30, clock_offset_seconds=offset)
    seen = play(camera.url, transport)
    differences = [told - offset - sent.wall_seconds for told, sent in zip(seen.camera_times, camera.sent, strict=True)]
    assert max(map(abs, differences)) < 0.05


def test_without_sender_reports_packets_carry_no_wall_time(server, clip):
    camera = server.add_camera("cam", clip, frames=30, sender_reports=False)
    assert play(camera.url).camera_times == [None] * 30


def test_rtp_timestamps_may_wrap(server, clip):
    camera = server.add_camera("cam", clip, frames=40, first_timestamp=2**32 - 10_000)
    seen = play(camera.url)
    assert seen.numbers == list(range(40))
    assert camera.sent[-1].rtp_timestamp < camera.sent[0].rtp_timestamp
    steps = {later - earlier for earlier, later in pairwise(seen.pts[1:])}
    assert steps == {90_000 // FPS}


@pytest.mark.parametrize("scheme", ["basic", "digest"])
def test_only_the_right_password_plays(server, clip, scheme):
    camera = server.add_camera("cam", clip, frames=10, user="viewer", password="open", auth=scheme)
    with pytest.raises(av.error.HTTPUnauthorizedError):
        opened(camera.url.replace("viewer:open", "viewer:wrong"))
    tries = camera.counts()["authorised_requests"]
    assert tries >= 1
    with pytest.raises(av.error.HTTPUnauthorizedError):
        opened(camera.url.replace("viewer:open@", ""))
    assert camera.counts()["authorised_requests"] == tries
    assert play(camera.url).numbers == list(range(10))


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (401, av.error.HTTPUnauthorizedError),
        (403, av.error.HTTPForbiddenError),
        (404, av.error.HTTPNotFoundError),
        (453, av.error.HTTPOtherClientError),
        (503, av.error.HTTPServerError),
    ],
)
def test_statuses_reach_the_client_as_its_errors(server, clip, code, error):
    camera = server.add_camera("cam", clip, frames=5, user="viewer", password="open")
    camera.status(code)
    with pytest.raises(error):
        opened(camera.url)
    camera.answer()
    assert play(camera.url).numbers == list(range(5))


def test_unknown_paths_are_not_found(server):
    with pytest.raises(av.error.HTTPNotFoundError):
        opened(f"rtsp://127.0.0.1:{server.port}/nobody")


def test_a_refusing_server_keeps_its_port_and_its_sessions(server, clip):
    camera = server.add_camera("cam", clip)
    player = Player(camera.url, pictures=60)
    assert camera.wait_for_playing(1)
    camera.refuse()
    camera.refuse()
    with pytest.raises(ConnectionRefusedError):
        opened(camera.url)
    assert len(player.result().numbers) == 60
    camera.accept()
    assert len(play(camera.url, pictures=3).numbers) == 3


def test_a_silent_server_runs_into_the_clients_timeout(server, clip):
    camera = server.add_camera("cam", clip, frames=5)
    camera.silence()
    with pytest.raises((av.error.InvalidDataError, av.error.ExitError)):
        opened(camera.url, seconds=0.3)
    assert camera.counts()["requests"] >= 1
    camera.answer()
    assert play(camera.url).numbers == list(range(5))


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("fault", ["stall", "trickle"])
def test_media_that_stops_runs_into_the_clients_timeout(server, clip, transport, fault):
    camera = server.add_camera("cam", clip, report_interval_seconds=0.1)
    player = Player(camera.url, transport, seconds=0.5)
    assert camera.wait_for_sent(50)
    getattr(camera, fault)()
    sent = len(camera.sent)
    seen = player.result()
    # FFmpeg gives an I/O error, not an exit, where the time runs out inside an interleaved packet's header.
    assert isinstance(seen.error, (av.error.ExitError, av.error.OSError))
    assert len(camera.sent) == sent
    assert seen.numbers == sent_in_order(camera)[: len(seen.numbers)]
    assert camera.wait_for_playing(0)


def test_after_a_short_stall_no_picture_is_missing(server, clip):
    camera = server.add_camera("cam", clip, frames=120)
    player = Player(camera.url)
    assert camera.wait_for_sent(40)
    camera.stall()
    at = len(camera.sent)
    time.sleep(0.4)
    camera.resume()
    seen = player.result()
    assert seen.numbers == sent_in_order(camera)
    assert len(seen.numbers) == 120
    assert (seen.pts[at] - seen.pts[at - 1]) / 90_000 > 0.35


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_cut_ends_the_stream_and_the_camera_plays_again(server, clip, transport):
    camera = server.add_camera("cam", clip)
    player = Player(camera.url, transport)
    assert camera.wait_for_sent(40)
    camera.cut()
    assert camera.wait_for_playing(0)
    last_index = camera.sent[-1].index
    seen = player.result()
    assert seen.numbers == sent_in_order(camera)[: len(seen.numbers)]
    again = play(camera.url, transport, pictures=5)
    first = next(picture for picture in camera.sent if picture.index > last_index)
    assert (first.index, first.keyframe) == (last_index + 1, True)
    assert again.numbers[0] == first.number


def test_a_restarting_server_refuses_and_then_plays_on_the_same_port(server, clip):
    camera = server.add_camera("cam", clip)
    player = Player(camera.url)
    assert camera.wait_for_sent(30)
    server.restart(after_seconds=0.5)
    with pytest.raises(ConnectionRefusedError):
        opened(camera.url)
    player.result()
    deadline = time.monotonic() + 10
    while True:
        try:
            assert len(play(camera.url, pictures=3).numbers) == 3
            return
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_camera_with_its_own_port_fails_alone(server, clip):
    alone = server.add_camera("alone", clip, port=0)
    other = server.add_camera("other", clip, frames=5)
    alone.refuse()
    with pytest.raises(ConnectionRefusedError):
        opened(alone.url)
    assert play(other.url).numbers == list(range(5))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_new_resolution_comes_in_mid_stream(server, clip, clips, transport):
    larger = NumberedClip.make(clips, width=480, height=272, fps=FPS, frames=30)
    camera = server.add_camera("cam", clip, frames=140)
    player = Player(camera.url, transport)
    assert camera.wait_for_sent(45)
    camera.change_resolution(larger)
    seen = player.result()
    assert list(dict.fromkeys(seen.sizes)) == [(320, 192), (480, 272)]
    assert seen.numbers == sent_in_order(camera)
    assert seen.numbers[seen.sizes.index((480, 272))] == 0


def test_cameras_play_at_once_and_fail_alone(server, clip):
    cameras = [server.add_camera(f"hall/{place}", clip, frames=100) for place in range(4)]
    players = [Player(camera.url) for camera in cameras]
    assert cameras[0].wait_for_sent(20)
    cameras[0].cut()
    results = [player.result() for player in players]
    assert len(results[0].numbers) < 100
    for camera, seen in zip(cameras[1:], results[1:], strict=True):
        assert seen.numbers == sent_in_order(camera)
        assert len(seen.numbers) == 100


def test_clients_of_one_camera_see_the_same_pictures(server, clip):
    camera = server.add_camera("cam", clip, frames=30)
    camera.stall()
    players = [Player(camera.url, seconds=10), Player(camera.url, "udp", seconds=10)]
    assert camera.wait_for_count("sessions_opened", 2)
    camera.resume()
    assert [player.result().numbers for player in players] == [list(range(30))] * 2
    by_session = {}
    for picture in camera.sent:
        by_session.setdefault(picture.session_id, []).append(picture.index)
    assert list(by_session.values()) == [list(range(30))] * 2


def test_damaged_pictures_are_in_the_log(server, clip):
    camera = server.add_camera("cam", clip, frames=60)
    camera.corrupt(10)
    seen = play(camera.url)
    assert [picture.index for picture in camera.sent if picture.damaged] == [9, 19, 29, 39, 49, 59]
    assert set(sent_in_order(camera)[:9]) <= set(seen.numbers)


def test_lost_packets_are_in_the_log(server, clip):
    camera = server.add_camera("cam", clip, frames=60)
    camera.lose(25)
    seen = play(camera.url)
    assert sum(picture.lost_packets for picture in camera.sent) >= 3
    assert seen.error is None
    assert 0 < len(seen.numbers) <= 60


def test_a_burst_is_sent_late_with_regular_timestamps(server, clip):
    camera = server.add_camera("cam", clip, frames=100)
    player = Player(camera.url)
    assert camera.wait_for_sent(40)
    camera.burst(0.5)
    assert player.result().numbers == sent_in_order(camera)
    sent = camera.sent
    timestamps = [(picture.rtp_timestamp - sent[0].rtp_timestamp) % 2**32 for picture in sent]
    assert timestamps == [index * 90_000 // FPS for index in range(100)]
    gaps = [later.monotonic_seconds - earlier.monotonic_seconds for earlier, later in pairwise(sent)]
    assert max(gaps) > 0.4


def test_the_frame_rate_changes_while_playing(server, clip):
    camera = server.add_camera("cam", clip, fps=50, frames=90)
    player = Player(camera.url)
    assert camera.wait_for_sent(40)
    camera.set_fps(100)
    seen = player.result()
    steps = [later - earlier for earlier, later in pairwise(seen.pts[1:])]
    assert (steps[0], steps[-1]) == (1800, 900)


@pytest.mark.parametrize(("transport", "how"), [("tcp", "bye"), ("tcp", "close"), ("udp", "bye")])
def test_an_end_is_clean_and_the_camera_can_be_rewound(server, clip, transport, how):
    camera = server.add_camera("cam", clip)
    player = Player(camera.url, transport)
    assert camera.wait_for_sent(50)
    camera.end(how, gone=True)
    seen = player.result()
    assert seen.error is None
    assert seen.numbers == sent_in_order(camera)
    assert camera.wait_for_count("teardowns", 1)
    with pytest.raises(av.error.HTTPNotFoundError):
        opened(camera.url)
    camera.rewind(frames=5)
    assert play(camera.url, transport).numbers == list(range(5))
    assert camera.counts()["sessions_opened"] == 2


def test_a_client_that_reads_late_gets_everything(server, clips):
    clip = NumberedClip.make(clips, width=640, height=480, fps=FPS, frames=40, gop=1)
    camera = server.add_camera("cam", clip, fps=200, frames=120)
    container = opened(camera.url, seconds=10)
    time.sleep(0.8)
    seen = play(None, container=container)
    assert seen.numbers == sent_in_order(camera)
    assert len(seen.numbers) == 120


def test_closing_ends_every_thread_also_while_a_client_does_not_read(clips):
    before = set(threading.enumerate())
    clip = NumberedClip.make(clips, width=640, height=480, fps=FPS, frames=40, gop=1)
    with RtspServer() as server:
        camera = server.add_camera("cam", clip, fps=1000)
        with opened(camera.url):
            time.sleep(0.5)
            server.close()
        server.close()
    assert [thread.name for thread in threading.enumerate() if thread not in before] == []
    RtspServer(server.port).close()


def test_the_server_in_its_own_process_has_the_same_calls(clip, clips):
    larger = NumberedClip.make(clips, width=480, height=272, fps=FPS, frames=30)
    with RtspServerProcess() as server:
        camera = server.add_camera("cam", clip, frames=140)
        player = Player(camera.url)
        assert camera.wait_for_sent(40)
        camera.change_resolution(larger)
        seen = player.result()
        assert seen.numbers == sent_in_order(camera)
        assert set(seen.sizes) == {(320, 192), (480, 272)}
        assert camera.wait_for_count("teardowns", 1)
        with pytest.raises(ValueError, match="fps must be more than 0, got 0"):
            camera.set_fps(0)
        server.refuse()
        with pytest.raises(ConnectionRefusedError):
            opened(camera.url)
    server.close()
    with pytest.raises(RuntimeError, match="closed"):
        camera.counts()


def test_every_fault_of_a_camera_can_be_asked_of_the_process():
    inner = {"reply_to", "attach", "detach", "join", "leave", "close"}
    queries = {"url", "clip", "sent", "sent_since", "counts", "wait_for_sent", "wait_for_playing", "wait_for_count"}
    public = {name for name in dir(Camera) if not name.startswith("_")}
    assert public - inner - queries == COMMANDS


def test_a_file_is_served_from_the_command_line(clip):
    command = [sys.executable, "-m", "tests.helpers.rtsp_server", "--clip", str(clip.path), "--port", "0"]
    with subprocess.Popen(
        [*command, "--path", "door", "--frames", "8"], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            line = child.stdout.readline()
            assert line.startswith("40 pictures, 320x192: rtsp://127.0.0.1:")
            assert play(line.split()[-1]).numbers == list(range(8))
        finally:
            child.terminate()
