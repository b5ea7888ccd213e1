"""What a camera sent is what a replay plays: the same pictures, at the same distances, whatever happened meanwhile."""

from __future__ import annotations

import json
import random
import shutil
import signal
import time
from itertools import pairwise
from statistics import median

import pytest

from pipeline.record.times import read_times, segments_in, times_path
from tests.helpers.numbered_clip import NumberedClip, read_number
from tests.helpers.onpace_process import OnpaceProcess, onpace, run_with_summary
from tests.helpers.recordings import recorded
from tests.helpers.rtsp_process import RtspServerProcess
from tests.helpers.test_data import test_data
from tests.helpers.tiny_onnx import do_nothing_detector
from tests.source.playing import play


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """25 pictures a second, a keyframe every second, looped by cameras."""
    return NumberedClip.make(tmp_path_factory.mktemp("clips"), fps=25, frames=250)


@pytest.fixture
def cameras():
    """An RTSP server in a process of its own."""
    with RtspServerProcess() as server:
        yield server


@pytest.fixture(scope="module")
def of_clip(clip, tmp_path_factory):
    """The whole clip, recorded in one file."""
    return recorded(str(clip.path), tmp_path_factory.mktemp("of_clip"))


def number_of(picture):
    """The number in a picture's pixels."""
    return read_number(picture.planes[0])


def numbers(folder, **options):
    """The numbers of all pictures of a replay."""
    seen = play(f"recording:{folder}", keep=lambda picture: (number_of(picture),), **options)
    assert seen.error is None
    assert seen.corrupt == 0
    return [number for (number,) in seen.pictures]


def arrivals(folder):
    """When each packet arrived, seconds since the recorder's zero."""
    return [times.arrived for video in segments_in(folder) for times in read_times(video)[1]]


def ages(folder):
    """How long before its arrival each packet was captured, in seconds."""
    return [times.age for video in segments_in(folder) for times in read_times(video)[1]]


@pytest.fixture(scope="module")
def door(clip, tmp_path_factory):
    """Four seconds of a camera: the folder, what the command said, and what the camera had sent."""
    out = tmp_path_factory.mktemp("door")
    with RtspServerProcess() as server:
        camera = server.add_camera("door", clip)
        process = onpace("record", camera.url, "--out", out, "--for", "4s", "--json")
        assert process.wait() == 0, process.stderr
        (stream,) = json.loads(process.stdout)["streams"]
        return out / "door", stream, camera.sent[: stream["packets"]]


def test_a_replay_shows_exactly_the_pictures_that_the_camera_sent_when_it_sent_them(door):
    folder, stream, sent = door
    assert stream["packets"] > 50
    assert numbers(folder) == [picture.number for picture in sent]
    # Arrival follows sending, but for the burst at the start and the jitter of a busy machine.
    lag = [at - one.monotonic_seconds for at, one in zip(arrivals(folder), sent, strict=True)]
    assert median(abs(one - median(lag)) for one in lag) < 0.02


def test_a_realtime_replay_keeps_the_intervals_and_capture_times(door):
    folder, _, _ = door
    seen = play(f"recording:{folder}", realtime=True)
    assert seen.info.live
    due = [packet.captured_at + age for packet, age in zip(seen.packets, ages(folder), strict=True)]
    then = arrivals(folder)
    assert [at - due[0] for at in due] == pytest.approx([at - then[0] for at in then], abs=1e-4)
    # How late a thread wakes is the machine's; the schedule does not slip for it.
    late = [packet.received_at - at for packet, at in zip(seen.packets, due, strict=True)]
    assert min(late) >= 0
    assert median(late) < 0.03
    assert seen.packets[-1].capture_clock == "rtcp"


def test_as_fast_as_possible_capture_lies_as_long_before_arrival_as_it_did(door):
    folder, stream, _ = door
    started = time.monotonic()
    seen = play(f"recording:{folder}")
    assert time.monotonic() - started < stream["seconds"] / 2
    assert not seen.info.live
    assert [p.received_at - p.captured_at for p in seen.packets] == pytest.approx(ages(folder), abs=1e-6)
    assert any(ages(folder))


def test_run_plays_a_recording_at_its_own_pace(tmp_path, door):
    folder, stream, _ = door
    model = do_nothing_detector(tmp_path / "nothing.onnx", size=(160, 96))
    summary = run_with_summary(f"recording:{folder}", "--realtime", "--model", model)
    (played,) = summary["streams"]
    assert (played["id"], played["received"], played["in_flight"]) == ("door", stream["packets"], 0)
    assert summary["duration_seconds"] > stream["seconds"] - 0.1
    assert played["capture_clock"] == "rtcp"


def test_files_of_a_few_seconds_each_begin_with_a_keyframe_and_play_as_one(tmp_path, clip):
    folder = recorded(str(clip.path), tmp_path / "cut", most_bytes=60_000)
    videos = segments_in(folder)
    assert len(videos) > 3
    assert numbers(folder) == list(range(250))
    for video in videos:
        alone = numbers(video)
        assert alone == list(range(alone[0], alone[0] + len(alone)))


def test_pictures_that_are_sent_out_of_order_come_out_in_order(tmp_path):
    clip = NumberedClip.make(tmp_path, fps=25, frames=60, b_frames=2)
    assert numbers(recorded(str(clip.path), tmp_path / "b")) == list(range(60))


@pytest.mark.parametrize("which", ["video", "times", "both"])
def test_a_recording_cut_off_at_any_byte_plays_up_to_the_cut(of_clip, tmp_path, which):
    (video,) = segments_in(of_clip)
    whole_video, whole_times = video.read_bytes(), times_path(video).read_bytes()
    rng = random.Random(7)
    played = []
    for share in sorted(rng.random() for _ in range(12)):
        cut = tmp_path / video.name
        cut.write_bytes(whole_video[: int(share * len(whole_video))] if which != "times" else whole_video)
        times_path(cut).write_bytes(whole_times[: int(share * len(whole_times))] if which != "video" else whole_times)
        seen = play(f"recording:{cut}", keep=lambda picture: (number_of(picture),))
        assert seen.error is None or not seen.packets, seen.error
        assert seen.pictures == [(number,) for number in range(len(seen.pictures))]
        played.append((share, len(seen.pictures)))
    counts = [count for _, count in played]
    assert counts == sorted(counts)
    for share, count in played:
        # Keyframes are larger than the rest: a share of the bytes is only about that share of the pictures.
        assert count >= 250 * share - 40, (share, count)


def test_a_recorder_that_is_killed_loses_less_than_a_second(tmp_path, cameras, clip):
    camera = cameras.add_camera("door", clip)
    with OnpaceProcess("record", camera.url, "--out", tmp_path) as process:
        process.wait_for("recording: h264")
        assert camera.wait_for_sent(80)
        process.signal(signal.SIGKILL)
        sent = len(camera.sent)
        process.wait(10)
    found = numbers(tmp_path / "door")
    assert found == [picture.number for picture in camera.sent[: len(found)]]
    assert len(found) >= sent - 25


def test_a_camera_that_restarts_is_recorded_on_and_plays_as_one_stream(tmp_path, cameras, clip):
    camera = cameras.add_camera("door", clip, port=0)
    with OnpaceProcess("record", camera.url, "--out", tmp_path, "--json") as process:
        process.wait_for("recording: h264")
        assert camera.wait_for_sent(40)
        camera.restart(1.0)
        process.wait_for("connection 2")
        assert camera.wait_for_sent(len(camera.sent) + 40)
        process.signal(signal.SIGTERM)
        assert process.wait(15) == 0, process.stderr
    (stream,) = json.loads(process.stdout)["streams"]
    assert (stream["connections"], stream["segments"], stream["error"]) == (2, 2, "")
    seen = play(f"recording:{tmp_path / 'door'}", keep=lambda picture: (number_of(picture), picture.pts_seconds))
    assert len(seen.pictures) == stream["packets"]
    stamps = [pts for _, pts in seen.pictures if pts is not None]
    assert all(a < b for a, b in pairwise(stamps)), "time went backwards"
    gap = max(b - a for a, b in pairwise(arrivals(tmp_path / "door")))
    assert gap > 0.9
    assert max(b - a for a, b in pairwise(stamps)) == pytest.approx(gap, abs=0.5)


def test_another_picture_size_after_a_reconnect_plays_on(tmp_path, cameras, clip):
    other = NumberedClip.make(tmp_path / "other", width=640, height=384, fps=25, frames=100)
    camera = cameras.add_camera("door", clip, port=0)
    out = tmp_path / "out"
    with OnpaceProcess("record", camera.url, "--out", out) as process:
        process.wait_for("recording: h264")
        assert camera.wait_for_sent(30)
        camera.change_resolution(other)
        assert camera.wait_for_sent(80)
        camera.restart(0.5)
        process.wait_for("connection 2")
        assert camera.wait_for_sent(len(camera.sent) + 30)
        process.signal(signal.SIGTERM)
        assert process.wait(15) == 0, process.stderr
    seen = play(f"recording:{out / 'door'}")
    assert seen.error is None and seen.corrupt == 0
    assert set(seen.sizes) == {(320, 192), (640, 384)}
    assert all(number_of(picture) is not None for picture in seen.pictures)


def test_a_password_is_neither_printed_nor_kept(tmp_path, cameras, clip):
    camera = cameras.add_camera("door", clip, user="admin", password="canary#1")
    config = tmp_path / "c.yaml"
    url = f"rtsp://127.0.0.1:{cameras.port}/door"
    model = do_nothing_detector(tmp_path / "nothing.onnx", size=(160, 96))
    config.write_text(
        f"streams: [{{id: door, url: '{url}', username: admin, password: 'canary#1'}}]\ninfer: {{model: {model}}}\n"
    )
    process = onpace("record", config, "--out", tmp_path / "out", "--for", "3s", "--log-level", "debug")
    assert process.wait() == 0, process.stderr
    assert camera.counts()["authorised_requests"] > 0
    written = b"".join(path.read_bytes() for path in (tmp_path / "out" / "door").iterdir())
    assert b"canary" not in written
    assert "canary" not in process.stdout + process.stderr
    assert len(numbers(tmp_path / "out" / "door")) > 25


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["ftp://host/x", "--out", "{tmp}"], "ftp"),
        (["rtsp://127.0.0.1:1/x", "--out", "/proc/nowhere"], "--out"),
        (["rtsp://127.0.0.1:1/x", "--out", "{tmp}", "--segment-size", "5"], "unit"),
        (["rtsp://127.0.0.1:1/x", "--out", "{tmp}", "--for", "5"], "unit"),
        (["", "--out", "{tmp}"], "empty"),
    ],
)
def test_bad_input_is_one_clear_error(tmp_path, arguments, says):
    process = onpace("record", *[argument.replace("{tmp}", str(tmp_path)) for argument in arguments])
    assert process.wait() == 2, process.stderr
    assert says in process.stderr
    assert "Traceback" not in process.stderr


def test_what_has_no_packets_is_refused(tmp_path):
    process = onpace("record", "pattern:?frames=5", "--out", tmp_path)
    assert process.wait() == 1
    assert "no coded packets" in process.stderr


def test_what_is_no_recording_says_so(of_clip, tmp_path):
    (tmp_path / "a.mkv").write_bytes(b"")
    assert "no recording" in str(play(f"recording:{tmp_path}").error)
    assert "no recording" in str(play(f"recording:{tmp_path / 'a.mkv'}").error)
    two = tmp_path / "two"
    for name in ("door", "yard"):
        shutil.copytree(of_clip, two / name)
    assert "door, yard" in str(play(f"recording:{two}").error)
    assert numbers(two / "yard") == list(range(250))


@pytest.mark.parametrize(
    "name",
    [
        "av1_testcard.mkv",
        "park_hevc_10bit.mkv",
        "person_mjpeg.avi",
        "highway_mpeg4_bframes.avi",
        "resolution_change.h264",
    ],
)
def test_every_codec_comes_back_pixel_for_pixel(tmp_path, name):
    def pixels(picture):
        return tuple(hash(plane.tobytes()) for plane in picture.planes)

    path = test_data() / "videos" / name
    folder = recorded(str(path), tmp_path / "r")
    assert play(f"recording:{folder}", keep=pixels).pictures == play(str(path), keep=pixels).pictures
