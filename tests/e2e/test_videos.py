"""Every video of the test data goes through the whole pipeline, and its boxes are right on every frame."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tests.helpers.onpace_process import balanced, run_with_summary
from tests.helpers.test_data import test_data

pytestmark = pytest.mark.e2e

PICTURES = {  # file -> pictures that come out, as SOURCES.md counts them
    "one-by-one-person-detection.mp4": 1394,
    "car-detection.mp4": 377,
    "bottle-detection.mp4": 1189,
    "asl_walk.mkv": 89,
    "restaurant_720p.mp4": 192,
    "highway_mpeg4_bframes.avi": 748,
    "road_topdown_msmpeg4v2.avi": 374,
    "park_hevc_10bit.mkv": 110,
    "resolution_change.h264": 96,
    "rotation_90.mp4": 30,
    "jellyfish_1080p_pts_gap.mkv": 299,
    "two_video_streams.mkv": 96,
    "nasa_multistream.mp4": 325,
    "av1_testcard.mkv": 125,
    "person_mjpeg.avi": 200,
    "person_portrait_vfr.mp4": 401,
    "car_mpegts.ts": 377,
    "car_mpegts_damaged.ts": 234,
}


def test_the_list_above_is_complete():
    assert {path.name for path in (test_data() / "videos").iterdir()} == set(PICTURES)


@pytest.fixture(scope="module")
def played(models, tmp_path_factory):
    """All of them in one run, their messages by stream."""
    out = tmp_path_factory.mktemp("videos") / "out.jsonl"
    videos = [test_data() / "videos" / name for name in PICTURES]
    summary = run_with_summary(
        *videos, "--model", models / "planted.onnx", "--sink", f"jsonl:{out}", timeout_seconds=110
    )
    messages = {}
    for line in out.read_text().splitlines():
        message = json.loads(line)
        if message["kind"] == "detections":
            messages.setdefault(message["stream_id"], []).append(message)
    return summary, messages


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_is_published_once_and_in_order(played, name):
    summary, messages = played
    expected, name = PICTURES[name], name.rpartition(".")[0]
    (stream,) = (stream for stream in summary["streams"] if stream["id"] == name)
    assert stream["published"] == expected
    assert stream["in_flight"] == 0
    assert balanced(stream)
    times = [message["pts_seconds"] for message in messages[name]]
    assert times == sorted(set(times))
    assert [message["sequence"] for message in messages[name]] == list(range(1, len(times) + 1))


def test_boxes_follow_a_resolution_change_in_mid_stream(played):
    _, messages = played
    sizes = Counter()
    for message in messages["resolution_change"]:
        width, height = message["frame_width"], message["frame_height"]
        sizes[width, height] += 1
        scale = 320 / width
        top = (320 - height * scale) / 2
        expected = [80 / scale, (100 - top) / scale, 160 / scale, (220 - top) / scale]
        (found,) = message["objects"]
        assert found["xyxy"] == pytest.approx(expected, abs=2.0)  # the letterbox is whole pixels of 320
    assert sizes == {(848, 464): 49, (424, 232): 47}


def test_a_turned_video_is_published_upright(played):
    _, messages = played
    assert {(m["frame_width"], m["frame_height"]) for m in messages["rotation_90"]} == {(464, 848)}
