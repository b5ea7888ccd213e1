"""A stream that infers every n-th frame: tracks go on between, nothing is lost, and every frame says what it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_overload import run_cameras
from tests.e2e.test_tracking import FRAMES, ids_by_class, messages
from tests.helpers.moving_boxes import moving_boxes
from tests.helpers.onpace_process import balanced, run_with_summary

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return moving_boxes(tmp_path_factory.mktemp("clips") / "boxes.mp4", FRAMES)


def centres(message: dict[str, Any]) -> dict[str, float]:
    return {one["class_name"]: (one["xyxy"][0] + one["xyxy"][2]) / 2 for one in message["objects"]}


@pytest.mark.parametrize("tracker", ["bytetrack", "ocsort"])
def test_boxes_move_on_in_the_frames_that_the_model_does_not_see(models, boxes, tmp_path, tracker):
    streams = (
        f"{{id: all, url: {boxes}, tracker: {tracker}}}, {{id: third, url: {boxes}, tracker: {tracker}, every: 3}}"
    )
    found = messages(tmp_path, streams, models / "colours.onnx")
    third = found["third"]
    assert [message["frame_index"] for message in third] == list(range(FRAMES))
    assert [message.get("inferred", True) for message in third] == [index % 3 == 0 for index in range(FRAMES)]
    assert all(message.get("inferred", True) for message in found["all"])
    assert ids_by_class(third[6:]) == ids_by_class(found["all"][6:])
    for seen, carried in zip(found["all"][6:], third[6:], strict=True):
        assert centres(carried) == pytest.approx(centres(seen), abs=8.0)  # a box goes 10.6 pixels from frame to frame
        expected = {"confirmed"} if carried.get("inferred", True) else {"carried"}
        assert {one["track_state"] for one in carried["objects"]} == expected
        if not carried.get("inferred", True):
            assert carried["stage_seconds"]["infer"] == 0.0


def test_without_a_tracker_the_stride_drops_and_says_so(models, boxes, tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text(f"streams: [{{id: a, url: {boxes}}}]\ninfer: {{model: {models / 'colours.onnx'}, every: 4}}\n")
    (stream,) = run_with_summary(config)["streams"]
    assert stream["published"] == len(range(0, FRAMES, 4))
    assert stream["dropped"] == {"decode": {"stride": FRAMES - stream["published"]}}
    assert balanced(stream)
    assert stream["verdict"] == "keeping_up"


def test_an_overloaded_camera_that_adapts_keeps_pace_and_says_how(models, cameras, clip, tmp_path):
    plans = {"a": (cameras.add_camera("a", clip, fps=60).url, ", tracker: bytetrack, adapt: stride")}
    # Patient, because what is shown is the stride, also where this machine has other work beside.
    patient = "decode: {queue_frames: 64}\nkeepup: {max_age: 5s}"
    streams, published = run_cameras(tmp_path, models / "working.onnx", plans, patient)
    stream = streams["a"]
    assert balanced(stream)
    lost = sum(count for reasons in stream["dropped"].values() for why, count in reasons.items() if why != "stopped")
    assert lost <= 0.4 * stream["received"], stream["dropped"]
    order = [message["frame_index"] for message in published]
    assert order == sorted(set(order))
    inferred = sum(message.get("inferred", True) for message in published)
    assert inferred < 0.8 * len(published), "the model is too slow for all of them"
    statuses = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines() if '"status"' in line]
    assert max(status["inferred_every"] or 0.0 for status in statuses) > 1.2
    kept = [
        status for status in statuses if status["verdict"] == "keeping_up" and (status["inferred_every"] or 0) > 1.1
    ]
    assert all("to keep pace" in status["cause"] for status in kept)
    assert kept or lost > 0.02 * stream["received"], "neither lost frames nor kept pace"
