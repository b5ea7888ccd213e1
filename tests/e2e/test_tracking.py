"""Identities through the real pipeline: from moving boxes in a video to track ids in messages."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.moving_boxes import moving_boxes
from tests.helpers.onpace_process import run_with_summary

pytestmark = pytest.mark.e2e

FRAMES = 50


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return moving_boxes(tmp_path_factory.mktemp("clips") / "boxes.mp4", FRAMES)


def messages(folder: Path, streams: str, model: Path, *arguments: str, track: str = "") -> dict[str, list[Any]]:
    """Run ``streams`` (YAML) to their end; return each one's ``detections`` messages."""
    out, config = folder / "out.jsonl", folder / "run.yaml"
    config.write_text(
        f"streams: [{streams}]\n"
        f"infer: {{model: {model}, batch_size: 1}}\n"
        f"track: {{{track}}}\n"
        f"publish: {{sinks: ['jsonl:{out}']}}\n"
    )
    run_with_summary(config, *arguments)
    found = defaultdict(list)
    for line in out.read_text().splitlines():
        message = json.loads(line)
        if message["kind"] == "detections":
            found[message["stream_id"]].append(message)
    return found


def ids_by_class(found: list[Any]) -> dict[str, set[int | None]]:
    ids = defaultdict(set)
    for message in found:
        for one in message["objects"]:
            ids[one["class_name"]].add(one["track_id"])
    return ids


def test_identities_stay_and_every_stream_has_the_tracker_it_asked_for(models, boxes, tmp_path):
    streams = (
        f"{{id: default, url: {boxes}}}, {{id: other, url: {boxes}, tracker: ocsort}}, "
        f"{{id: none, url: {boxes}, tracker: 'off'}}"
    )
    found = messages(tmp_path, streams, models / "colours.onnx", track="tracker: bytetrack")
    for stream_id in ("default", "other"):
        assert len(found[stream_id]) == FRAMES
        assert ids_by_class(found[stream_id]) == {"red": {1}, "blue": {2}} or (
            ids_by_class(found[stream_id]) == {"red": {2}, "blue": {1}}
        )
        for message in found[stream_id]:
            assert {one["track_state"] for one in message["objects"]} == {"confirmed"}
            for one in message["objects"]:
                assert one["track_age_seconds"] == pytest.approx(message["pts_seconds"], abs=2e-3)
            assert 0.0 < message["stage_seconds"]["track"] < message["age_seconds"]
    assert len(found["none"]) == FRAMES
    for message in found["none"]:
        assert len(message["objects"]) == 2
        assert all(
            one["track_id"] is one["track_state"] is one["track_age_seconds"] is None for one in message["objects"]
        )
        assert message["stage_seconds"]["track"] == 0.0


def test_without_a_tracker_nothing_has_an_identity(models, boxes, tmp_path):
    found = messages(tmp_path, f"{{id: one, url: {boxes}}}", models / "colours.onnx")
    assert ids_by_class(found["one"]) == {"red": {None}, "blue": {None}}


def test_a_file_that_begins_again_is_a_new_epoch_with_new_identities(models, boxes, tmp_path):
    stream = f"{{id: one, url: {boxes}, loop: true}}"
    found = messages(tmp_path, stream, models / "colours.onnx", "--for", "6s", track="tracker: bytetrack")
    by_epoch = defaultdict(list)
    for message in found["one"]:
        by_epoch[message["epoch"]].append(message)
    assert len(by_epoch) >= 2
    seen: set[int | None] = set()
    for epoch in sorted(by_epoch):
        ids = ids_by_class(by_epoch[epoch])
        assert sorted(len(of_class) for of_class in ids.values()) == [1, 1]
        used = set.union(*ids.values())
        assert None not in used and not used & seen
        seen |= used


def test_doubtful_boxes_are_for_the_tracker_alone(models, tmp_path):
    """A box of 0.15 that no track vouches for is not published, whoever tracks."""
    streams = "{id: tracked, url: 'pattern:?frames=20'}, {id: plain, url: 'pattern:?frames=20', tracker: 'off'}"
    found = messages(tmp_path, streams, models / "doubtful.onnx", track="tracker: bytetrack")
    for stream_id in ("tracked", "plain"):
        assert [[one["score"] for one in message["objects"]] for message in found[stream_id]] == [[0.9]] * 20
