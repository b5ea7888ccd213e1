"""The bundled detector finds what the bundled clip shows: measured through the product, scored by COCO's own code."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.helpers.onpace_process import REPOSITORY, run_with_summary

SAMPLES = REPOSITORY / "samples"
TRUTH = json.loads((SAMPLES / "street_truth.json").read_text())


def width_height(xyxy: list[float]) -> list[float]:
    left, top, right, bottom = xyxy
    return [left, top, right - left, bottom - top]


def dataset() -> dict[str, Any]:
    """The truth as COCO writes it; what is to be ignored is a crowd, which absorbs detections and is never missed."""
    annotations = []
    for frame in TRUTH["frames"]:
        for thing in frame["objects"]:
            box = width_height(thing["xyxy"])
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": frame["frame"],
                    "category_id": thing["class_id"],
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": int(thing["ignore"]),
                }
            )
    return {
        "images": [{"id": frame["frame"]} for frame in TRUTH["frames"]],
        "categories": [{"id": number, "name": name} for number, name in enumerate(TRUTH["classes"])],
        "annotations": annotations,
    }


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> list[dict[str, Any]]:
    """Every detection on the clip, as the pipeline publishes it."""
    folder: Path = tmp_path_factory.mktemp("street")
    config = folder / "street.yaml"
    config.write_text(
        "streams: [{id: street, url: 'sample:street.mp4'}]\n"
        "infer: {model: 'sample:street.onnx', runtime: cpu}\n"
        "postprocess: {score_threshold: 0.01, iou_threshold: 0.6}\n"
        "publish: {sinks: ['jsonl:out.jsonl']}\n"
    )
    summary = run_with_summary(config)
    assert summary["streams"][0]["published"] == len(TRUTH["frames"])
    messages = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    return [
        {
            "image_id": message["frame_index"],
            "category_id": thing["class_id"],
            "bbox": width_height(thing["xyxy"]),
            "score": thing["score"],
        }
        for message in messages
        for thing in message.get("objects", [])
    ]


@pytest.mark.e2e
def test_the_detector_reaches_ap50_of_090_on_the_clip(found):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = dataset()
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[1] >= 0.90


def test_the_clip_and_the_detector_are_small_and_say_what_they_are():
    assert (SAMPLES / "street.mp4").stat().st_size <= 4_000_000
    assert (SAMPLES / "street.onnx").stat().st_size <= 4_000_000
    model = onnx.load(SAMPLES / "street.onnx")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert all(name in metadata["names"] for name in TRUTH["classes"])
    assert "Relu" in {node.op_type for node in model.graph.node}
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param, "the batch must be dynamic"
