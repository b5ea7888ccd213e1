"""Files: every test video plays to the exact number of pictures, and what is wrong with a file is said."""

from __future__ import annotations

import shutil
import threading
import time
from itertools import pairwise

import av
import numpy as np
import pytest

from pipeline.decode.decoder import open_decoder
from pipeline.errors import Cause, CutOffError, SourceError
from pipeline.source.pace import Pace
from tests.helpers.cut_movie import PICTURES, cut_movie, trimmed_movie
from tests.helpers.test_data import test_data
from tests.source.playing import opened, play

VIDEOS = {  # file -> codec, pictures, sizes in order of appearance, as test data's SOURCES.md states
    "one-by-one-person-detection.mp4": ("h264", 1394, [(768, 432)]),
    "car-detection.mp4": ("h264", 377, [(768, 432)]),
    "bottle-detection.mp4": ("h264", 1189, [(640, 360)]),
    "asl_walk.mkv": ("h264", 89, [(640, 480)]),
    "restaurant_720p.mp4": ("h264", 192, [(1280, 720)]),
    "highway_mpeg4_bframes.avi": ("mpeg4", 748, [(320, 240)]),
    "road_topdown_msmpeg4v2.avi": ("msmpeg4v2", 374, [(640, 360)]),
    "park_hevc_10bit.mkv": ("hevc", 110, [(848, 464)]),
    "resolution_change.h264": ("h264", 96, [(848, 464), (424, 232)]),
    "rotation_90.mp4": ("h264", 30, [(848, 464)]),
    "jellyfish_1080p_pts_gap.mkv": ("h264", 299, [(1920, 1080)]),
    "two_video_streams.mkv": ("h264", 96, [(848, 464)]),
    "nasa_multistream.mp4": ("h264", 325, [(320, 180)]),
    "av1_testcard.mkv": ("av1", 125, [(640, 360)]),
    "person_mjpeg.avi": ("mjpeg", 200, [(640, 360)]),
    "person_portrait_vfr.mp4": ("h264", 401, [(242, 430)]),
    "car_mpegts.ts": ("h264", 377, [(768, 432)]),
    "car_mpegts_damaged.ts": ("h264", 234, [(768, 432)]),
}


def outline(picture):
    """Keep what the tests look at, not the pixels: a whole clip of pictures would not fit into memory."""
    light = (picture.planes[0][:1, :1].copy(), None, None)
    return type(picture)(
        planes=(np.broadcast_to(light[0], picture.planes[0].shape), picture.planes[1][:1], picture.planes[2][:1]),
        colour=picture.colour,
        rotation=picture.rotation,
        pts_seconds=picture.pts_seconds,
        packet=picture.packet,
        damaged=picture.damaged,
        owner=None,
    )


def play_video(name, **options):
    return play(f"file:{test_data() / 'videos' / name}", keep=outline, **options)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", VIDEOS)
def test_every_video_plays_to_the_last_picture(name, threads):
    codec, pictures, sizes = VIDEOS[name]
    seen = play_video(name, threads=threads)
    assert seen.error is None
    assert len(seen.pictures) == pictures
    assert list(dict.fromkeys(seen.sizes)) == sizes
    assert seen.info is not None
    assert (seen.info.size, seen.info.codec, seen.info.live) == (sizes[0], codec, False)
    assert all(packet.capture_clock == "file" for packet in seen.packets)


def test_every_test_video_is_in_the_table():
    assert {path.name for path in (test_data() / "videos").iterdir() if path.suffix != ".md"} == set(VIDEOS)


def test_a_change_of_resolution_is_seen_on_the_very_picture():
    assert play_video("resolution_change.h264").sizes == [(848, 464)] * 49 + [(424, 232)] * 47


def test_pictures_without_timestamps_say_so_and_belong_to_a_packet():
    seen = play_video("resolution_change.h264")
    assert {picture.pts_seconds for picture in seen.pictures} == {None}
    assert {packet.pts_seconds for packet in seen.packets} == {None}
    assert all(picture.packet in seen.packets for picture in seen.pictures)


def test_timestamps_are_passed_on_as_the_codec_says_also_when_they_go_backwards():
    pts = [picture.pts_seconds for picture in play_video("highway_mpeg4_bframes.avi").pictures]
    assert pts[:8] == pytest.approx([0.04, 0.16, 0.24, 0.20, 0.28, 0.36, 0.32, 0.40])


def test_a_gap_in_the_timestamps_stays():
    pts = [picture.pts_seconds for picture in play_video("jellyfish_1080p_pts_gap.mkv").pictures]
    steps = [later - earlier for earlier, later in pairwise(pts)]
    assert steps[36] == pytest.approx(0.067, abs=1e-6)
    assert sorted(steps)[-2] < 0.035


@pytest.mark.parametrize("name", ["bottle-detection.mp4", "park_hevc_10bit.mkv", "person_portrait_vfr.mp4"])
def test_a_reordered_picture_keeps_the_times_of_its_own_packet(name):
    seen = play_video(name, threads=2)
    assert all(picture.packet.pts_seconds == picture.pts_seconds for picture in seen.pictures)
    assert len({id(picture.packet) for picture in seen.pictures}) == len(seen.pictures)


def test_a_damaged_transport_stream_goes_on_and_its_damage_is_marked():
    seen = play_video("car_mpegts_damaged.ts")
    damaged = sum(picture.damaged for picture in seen.pictures)
    assert 1 <= damaged <= 40
    assert len(seen.pictures) + seen.corrupt >= 234
    assert not any(picture.damaged for picture in play_video("car_mpegts.ts").pictures)


@pytest.mark.parametrize(
    ("name", "track", "size", "pictures"),
    [
        ("two_video_streams.mkv", 0, (848, 464), 96),
        ("two_video_streams.mkv", 1, (424, 232), 96),
        ("nasa_multistream.mp4", 0, (320, 180), 325),
        ("nasa_multistream.mp4", 1, (480, 270), 390),
    ],
)
def test_the_asked_video_track_is_played(name, track, size, pictures):
    seen = play_video(name, video_track=track)
    assert set(seen.sizes) == {size}
    assert len(seen.pictures) == pictures


def test_a_video_track_that_is_not_there_is_refused_with_those_that_are():
    seen = play_video("two_video_streams.mkv", video_track=2)
    assert seen.error is not None
    assert seen.error.cause is Cause.UNSUPPORTED
    assert "0 to 1" in str(seen.error)


def test_a_cover_picture_is_not_video(tmp_path):
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=44100)
        cover = container.add_stream("mjpeg", rate=1)
        cover.width = cover.height = 64
        cover.pix_fmt = "yuvj420p"
        try:
            cover.disposition = av.stream.Disposition.attached_pic
        except AttributeError:
            pytest.skip("this PyAV cannot write a cover picture")
        for packet in cover.encode(av.VideoFrame(64, 64, "yuvj420p")):
            container.mux(packet)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        frame.sample_rate = 44100
        for packet in [*sound.encode(frame), *sound.encode(None)]:
            container.mux(packet)
    seen = play(path)
    assert seen.error is not None and seen.error.cause is Cause.UNSUPPORTED
    assert "no video" in str(seen.error)


@pytest.mark.parametrize(
    ("content", "cause"),
    [(None, Cause.NOT_FOUND), (b"", Cause.UNSUPPORTED), (b"\0" * 4096, Cause.UNSUPPORTED)],
    ids=["missing", "empty", "zeros"],
)
def test_a_file_that_cannot_be_opened_says_why(tmp_path, content, cause):
    path = tmp_path / "clip.mp4"
    if content is not None:
        path.write_bytes(content)
    seen = play(path)
    assert seen.error is not None and seen.error.cause is cause
    assert str(path) in str(seen.error)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_file_gives_what_is_left_and_ends(tmp_path, share):
    whole = (test_data() / "videos/asl_walk.mkv").read_bytes()
    path = tmp_path / "cut.mkv"
    path.write_bytes(whole[: int(len(whole) * share)])
    seen = play(path, keep=outline)
    assert 0 < len(seen.pictures) < 89
    assert seen.error is None or seen.error.cause is Cause.CORRUPT


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_a_movie_that_is_cut_off_says_after_how_many_pictures(tmp_path, share):
    seen = play(cut_movie(tmp_path / "cut.mp4", share), keep=outline)
    assert isinstance(seen.error, CutOffError)
    assert f"it ends after {len(seen.packets)} of {PICTURES} pictures" in str(seen.error)
    assert len(seen.packets) < PICTURES


def test_a_movie_that_was_trimmed_is_whole(tmp_path):
    seen = play(trimmed_movie(tmp_path / "trimmed.mp4"), keep=outline)
    assert seen.error is None
    assert 0.4 * PICTURES < len(seen.packets) < 0.8 * PICTURES


def test_a_file_deleted_while_it_is_read_plays_on(tmp_path):
    path = shutil.copy(test_data() / "videos/asl_walk.mkv", tmp_path / "clip.mkv")
    source = opened(path)
    source.open()
    first = source.read()
    path.unlink()
    rest = sum(1 for _ in iter(source.read, None))
    source.close()
    assert first is not None
    assert rest == 88


def test_realtime_delivers_on_the_schedule_of_the_timestamps():
    started = time.monotonic()
    seen = play_video("restaurant_720p.mp4", realtime=True, most_packets=25)
    took = time.monotonic() - started
    assert seen.info is not None and seen.info.live
    due = [packet.captured_at - seen.packets[0].captured_at for packet in seen.packets]
    assert due == pytest.approx([index / 24 for index in range(25)], abs=0.002)
    assert 1.0 <= took < 1.6


def test_realtime_without_timestamps_keeps_the_declared_rate():
    seen = play_video("resolution_change.h264", realtime=True, most_packets=11)
    assert seen.packets[10].captured_at - seen.packets[0].captured_at == pytest.approx(10 / 25, abs=0.005)


def test_a_late_consumer_catches_up_and_the_schedule_does_not_slip():
    source = opened(test_data() / "videos/restaurant_720p.mp4", realtime=True)
    source.open()
    first = source.read()
    time.sleep(0.5)
    packets = [source.read() for _ in range(16)]
    source.close()
    due = [packet.captured_at - first.captured_at for packet in packets]
    late = [packet.received_at - packet.captured_at for packet in packets]
    assert due == pytest.approx([index / 24 for index in range(1, 17)], abs=0.002)
    assert late[0] > 0.4, "the lag shows as age"
    assert late[-1] < 0.05, "and is gone once caught up"
    assert all(packet.received_at >= packet.captured_at for packet in packets)


def test_stopping_ends_the_wait_for_the_next_picture_at_once(tmp_path):
    stopping = threading.Event()
    pace = Pace(0.1, stopping)
    assert pace.wait(0.0) is not None
    threading.Timer(0.1, stopping.set).start()
    started = time.monotonic()
    assert pace.wait(10.0) is None
    assert time.monotonic() - started < 1.0


def test_a_jump_in_the_timestamps_of_a_paced_file_is_not_waited_for():
    pace = Pace(50, threading.Event())
    due = [pace.wait(seconds) for seconds in (0.0, 5000.0, 5000.02, 3.0, 3.02)]
    assert [later - earlier for earlier, later in pairwise(due)] == pytest.approx([0.02] * 4)


def test_reading_stops_once_stopping_is_set():
    stopping = threading.Event()
    source = opened(test_data() / "videos/asl_walk.mkv", stopping)
    info = source.open()
    assert source.read() is not None
    stopping.set()
    assert source.read() is None
    open_decoder(info, 1).close()
    source.close()


def test_reading_a_source_that_is_not_open_ends_at_once():
    source = opened("nowhere.mp4")
    assert source.read() is None
    with pytest.raises(SourceError):
        source.open()
    source.close()
