"""Pictures for those who look: none while nobody does, made once for all, right in colour, matched to their message."""

from __future__ import annotations

import sys
import threading
import time

import cv2
import msgspec
import numpy as np
import pytest

from pipeline.dashboard.preview import Preview
from pipeline.dashboard.shrink import preview_size, shrink
from pipeline.frame import Colour, Frame, Size
from pipeline.publish.messages import DetectionsMessage, StageSeconds
from tests.dashboard.conftest import wait_until

RED = {"bt601": (81, 90, 240), "bt709": (63, 102, 240)}
"""Y, U, V of pure red in the limited range, by ITU-R BT.601 and BT.709."""


def frame_of(stream_id: str = "door", index: int = 0, **options) -> Frame:
    """A picture that is red above and black below."""
    height, width = 360, 640
    luma = np.full((height, width), 16, np.uint8)
    blue, red = np.full((2, height // 2, width // 2), 128, np.uint8)
    matrix = options.get("colour", Colour()).matrix
    luma[: height // 2], blue[: height // 4], red[: height // 4] = RED[matrix]
    facts = {"colour": Colour(), "rotation": 0, **options}
    times = {"received_at": 0.0, "captured_at": 0.0, "capture_utc": 0.0, "decoded_at": 0.0, "pts_seconds": 0.0}
    return Frame(stream_id, 1, index, (luma, blue, red), capture_clock="arrival", **facts, **times)


def message_of(frame: Frame) -> DetectionsMessage:
    """What was published for it."""
    stages = StageSeconds(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    return DetectionsMessage(
        1,
        "p",
        frame.stream_id,
        frame.epoch,
        1,
        frame.index,
        0.0,
        0.0,
        "arrival",
        0.0,
        0.0,
        *frame.size,
        "m",
        [],
        stages,
    )


@pytest.fixture
def preview():
    with_threads = Preview(cores=2, most_fps=30.0)
    yield with_threads
    with_threads.close()


def pictures(preview: Preview, viewer, index: int, *streams: str) -> dict[str, tuple[int, bytes]]:
    """Offer frames from ``index`` on until each stream's picture came; return stream -> (frame index, JPEG)."""
    got: dict[str, tuple[int, bytes]] = {}
    counter = iter(range(index, index + 10_000))

    def offered_and_came() -> bool:
        for stream in streams:
            frame = frame_of(stream, next(counter))
            preview.offer(frame, message_of(frame))
        time.sleep(0.02)
        for picture in viewer.take():
            message = msgspec.json.decode(picture.message, type=DetectionsMessage)
            got[message.stream_id] = (message.frame_index, picture.jpeg)
        return set(got) >= set(streams)

    wait_until(offered_and_came, "a picture of each stream")
    return got


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize(("rotation", "upright", "red_at"), [(0, (180, 320), (40, 160)), (90, (320, 180), (160, 140))])
def test_pictures_are_small_upright_and_right_in_colour(matrix, rotation, upright, red_at):
    frame = frame_of(colour=Colour(matrix), rotation=rotation)
    picture = cv2.imdecode(np.frombuffer(shrink(frame, 320), np.uint8), cv2.IMREAD_COLOR).astype(int)
    assert picture.shape[:2] == upright
    assert picture[red_at] == pytest.approx((0, 0, 255), abs=12)
    assert picture[upright[0] - 5, 5] == pytest.approx((0, 0, 0), abs=12)


@pytest.mark.parametrize(
    ("size", "expected"),
    [(Size(1920, 1080), Size(320, 180)), (Size(160, 120), Size(160, 120)), (Size(1080, 1920), Size(180, 320))],
)
def test_pictures_have_as_many_pixels_as_a_wide_one_and_are_never_enlarged(size, expected):
    assert preview_size(size, 320) == expected


def test_while_nobody_looks_no_frame_is_kept_and_no_thread_runs(preview):
    frame = frame_of()
    before = sys.getrefcount(frame)
    preview.offer(frame, message_of(frame))
    assert sys.getrefcount(frame) == before
    assert "preview" not in {thread.name for thread in threading.enumerate()}


def test_a_viewer_gets_pictures_of_what_it_looks_at_each_with_its_message(preview):
    with preview.watch(["door", "yard"], 320) as viewer:
        got = pictures(preview, viewer, 7, "door", "yard")
        preview.offer(frame_of("attic"), message_of(frame_of("attic")))
        assert all(index >= 7 for index, _ in got.values())
        time.sleep(0.1)
        assert "attic" not in {picture.stream_id for picture in viewer.take()}
    frame = frame_of()
    preview.offer(frame, message_of(frame))
    time.sleep(0.1)
    assert viewer.take() == [], "it has left"


def test_one_picture_serves_all_who_look_at_a_size(preview):
    with (
        preview.watch(["door"], 320) as one,
        preview.watch(["door"], 300) as other,
        preview.watch(["door"], 90) as small,
    ):
        seen = {viewer: {} for viewer in (one, other, small)}

        def all_saw_a_frame() -> set[int]:
            frame = frame_of(index=time.monotonic_ns())
            preview.offer(frame, message_of(frame))
            time.sleep(0.02)
            for viewer, pictures in seen.items():
                pictures.update({picture.message: picture for picture in viewer.take()})
            return seen[one].keys() & seen[other].keys() and seen[small]

        wait_until(all_saw_a_frame, "a frame that all saw")
        message = next(iter(seen[one].keys() & seen[other].keys()))
        assert seen[one][message].jpeg is seen[other][message].jpeg
        assert len(next(iter(seen[small].values())).jpeg) < len(seen[one][message].jpeg)


def test_a_picture_not_fetched_is_replaced_by_a_newer_one(preview):
    with preview.watch(["door"], 160) as viewer:
        first = pictures(preview, viewer, 0, "door")["door"][0]
        for index in range(1000, 1050):
            frame = frame_of(index=index)
            preview.offer(frame, message_of(frame))
            time.sleep(0.02)
        (picture,) = viewer.take()
        assert msgspec.json.decode(picture.message)["frame_index"] > first


def test_no_pictures_where_none_are_wanted():
    preview = Preview(cores=2, most_fps=0.0)
    with preview.watch(["door"], 320) as viewer:
        for index in range(5):
            frame = frame_of(index=index)
            preview.offer(frame, message_of(frame))
        time.sleep(0.2)
        assert viewer.take() == []
    preview.close()
