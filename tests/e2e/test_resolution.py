"""A camera that adapts by resolution keeps pace where the full size could not, says so, and comes back."""

from __future__ import annotations

import time

import pytest

from engines.faster_shape import rate_together
from engines.inspect_model import read_model_spec
from engines.runtime import RuntimeOptions, open_runtime
from pipeline.config.load import load_mapping
from pipeline.pipeline import Pipeline
from tests.helpers.published import published
from tests.helpers.resized_onnx import resized_yolov8
from tests.helpers.test_data import test_data
from tests.helpers.tiny_onnx import working_detector

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]

FULL, SMALL = (416, 416), (96, 96)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The same detector at two sizes: the small one is 18 times less work."""
    folder = tmp_path_factory.mktemp("models")
    return [str(working_detector(folder / f"{size[0]}.onnx", size, layers=40)) for size in (FULL, SMALL)]


def wait_for(pipeline, what, seconds=60.0):
    """Return the status of the stream ``slow`` once ``what`` holds of it."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        status = next(status for status in pipeline.status() if status.stream_id == "slow")
        if what(status):
            return status
        time.sleep(0.1)
    raise AssertionError(f"waited in vain: {status}")


def test_overload_makes_the_input_smaller_and_room_makes_it_large_again(models, tmp_path):
    full, small = models
    config = load_mapping(
        {
            "streams": [
                {"id": "slow", "url": "pattern:?size=320x180&fps=4", "adapt": "resolution"},
                {"id": "fast", "url": "pattern:?size=320x180&fps=120", "adapt": "resolution"},
                {"id": "full", "url": "pattern:?size=320x180&fps=2"},
            ],
            "infer": {"model": full, "runtime": "cpu", "smaller": [small], "threads": 2},
            "publish": {"sinks": [f"jsonl:{tmp_path / 'out.jsonl'}"], "status_interval": "200ms"},
            "keepup": {"window": "2s", "hysteresis": "1s", "tolerance": 0.1},
            "dashboard": {"listen": None},
        }
    ).config
    live = {"realtime": True}
    config = config.model_copy(update={"streams": [stream.model_copy(update=live) for stream in config.streams]})
    with Pipeline(config) as pipeline:
        assert "under overload at 96" in pipeline.runtime.describe()
        pipeline.start()
        shrunk = wait_for(pipeline, lambda status: status.verdict == "keeping_up" and status.input_size == SMALL)
        assert shrunk.cause == "infers at 96 instead of 416 to keep pace"
        assert shrunk.cause_stage == "infer"
        assert pipeline.streams.remove("fast", wait_seconds=20)
        assert wait_for(pipeline, lambda status: status.input_size == FULL).verdict != "overloaded"
        wait_for(pipeline, lambda status: status.verdict == "keeping_up" and not status.cause)
        pipeline.stop()
        assert pipeline.wait(20)
        assert pipeline.failure is None
    frames = published(tmp_path / "out.jsonl")
    assert {tuple(frame["input_size"]) for frame in frames["full"]} == {FULL}
    sizes = [tuple(frame["input_size"]) for frame in frames["slow"]]
    changes = [size for before, size in zip([None, *sizes], sizes, strict=False) if size != before]
    assert changes == [FULL, SMALL, FULL], "down once, back once"
    for stream in frames.values():
        order = [frame["frame_index"] for frame in stream]
        assert order == sorted(set(order))


def test_a_real_detector_keeps_pace_where_it_could_not_at_full_size(tmp_path):
    exported = test_data() / "models" / "yolov8n_640_dequant_AGPL.onnx"
    full, *smaller = (resized_yolov8(exported, tmp_path / f"v8n-{side}.onnx", (side, side)) for side in (640, 416, 128))
    options = RuntimeOptions(prefer="throughput", threads=2)
    with open_runtime("cpu", full, read_model_spec(full), options) as runtime:
        fits = rate_together([slot.run for slot in runtime.slots], 2.0)
    config = load_mapping(
        {
            "streams": [{"id": "slow", "url": f"pattern:?size=640x360&fps={1.6 * fits:.1f}", "realtime": True}],
            "infer": {"model": str(full), "runtime": "cpu", "smaller": [str(file) for file in smaller], "threads": 2},
            "overload": {"adapt": "resolution"},
            "keepup": {"window": "3s", "hysteresis": "1s", "tolerance": 0.1},
            "dashboard": {"listen": None},
        }
    ).config
    with Pipeline(config) as pipeline:
        pipeline.start()
        kept = wait_for(pipeline, lambda status: _keeps_pace_smaller(status, 640), seconds=90)
        assert kept.cause == f"infers at {kept.input_size[0]} instead of 640 to keep pace"
        assert kept.cadence_fps > 1.2 * fits


def _keeps_pace_smaller(status, full_side):
    """Whether the whole window holds what the smaller size does, and nothing from before."""
    smaller = status.input_size is not None and status.input_size[0] < full_side
    return smaller and status.verdict == "keeping_up" and status.published_fps > 0.9 * status.cadence_fps
