"""A faster runtime takes over while frames flow: nothing lost, nothing out of order."""

from __future__ import annotations

import threading
import time

import pytest

from engines.errors import DeviceMemoryError, ModelError, PlanMissingError
from engines.inspect_model import read_model_spec
from engines.runtime import PlanOptions, RuntimeOptions, open_runtime
from engines.trt.progress import Progress
from pipeline.config.load import load_mapping
from pipeline.errors import InputError
from pipeline.infer.upgrade import Upgrade, open_now
from pipeline.pipeline import Pipeline
from tests.helpers.published import published
from tests.helpers.tiny_onnx import colour_detector, working_detector


def config(model, out, streams, frames):
    data = {
        "streams": [
            {"id": f"s{number}", "url": f"pattern:?size=160x96&fps=100&frames={frames}"} for number in range(streams)
        ],
        "infer": {"model": str(model), "prefer": "throughput", "threads": 2},
        "publish": {"sinks": [f"jsonl:{out}"]},
    }
    return load_mapping(data).config


def slower(tmp_path):
    return working_detector(tmp_path / "slow.onnx", (160, 96), layers=2)


def runtime_of(model, **options):
    return open_runtime("cpu", model, read_model_spec(model), RuntimeOptions(**options))


@pytest.mark.parametrize("changes", [1, 3])
def test_nothing_is_lost_or_out_of_order_when_runtimes_change_under_load(tmp_path, changes):
    model, out = slower(tmp_path), tmp_path / "out.jsonl"
    shapes = ["latency", "throughput", "latency"][:changes]
    # Opened beforehand: a busy machine takes longer for that than for all the frames.
    others = [runtime_of(model, prefer=shape, threads=2, max_batch=1 + at) for at, shape in enumerate(shapes)]
    with Pipeline(config(model, out, streams=3, frames=60)) as pipeline:
        first = pipeline.runtime
        pipeline.start()
        for number, other in enumerate(others):
            wait_for_results(pipeline, 15 * (number + 1))
            assert pipeline._slots.change_to(other)
        assert pipeline.runtime is not first
        assert first.slots  # closed, not gone
        with pytest.raises(Exception, match="this runtime is closed"):
            first.slots[0].run(1)
        assert pipeline.wait(60)
        assert pipeline.failure is None
    frames = published(out)
    for stream in ("s0", "s1", "s2"):
        assert [frame["frame_index"] for frame in frames[stream]] == list(range(60))


def test_runtime_that_comes_late_is_closed_and_changes_nothing(tmp_path):
    model, out = slower(tmp_path), tmp_path / "out.jsonl"
    late = runtime_of(model, prefer="latency", threads=2)
    with Pipeline(config(model, out, streams=1, frames=10)) as pipeline:
        pipeline.start()
        assert pipeline.wait(30)
        assert not pipeline._slots.change_to(late)
    with pytest.raises(Exception, match="this runtime is closed"):
        late.slots[0].run(1)
    assert len(published(out)["s0"]) == 10


def test_idle_slots_give_way_at_once(tmp_path):
    """A camera that sends nothing must not keep the old runtime, and its memory, alive."""
    model = colour_detector(tmp_path / "m.onnx", (160, 96))
    running = load_mapping(
        {
            "streams": [{"id": "s0", "url": "pattern:?size=160x96&fps=0.2"}],
            "infer": {"model": str(model), "prefer": "latency", "threads": 2},
        }
    ).config
    with Pipeline(running) as pipeline:
        pipeline.start()
        time.sleep(0.3)
        begun = time.monotonic()
        assert pipeline._slots.change_to(runtime_of(model, prefer="latency", threads=2))
        assert time.monotonic() - begun < 4


def test_upgrade_that_fails_leaves_what_runs_and_says_why(caplog):
    def fail():
        raise ModelError("no such operator")

    upgrade = Upgrade("tensorrt", fail)
    upgrade.start(lambda runtime: pytest.fail("nothing was opened"))
    upgrade.close()
    upgrade.close()
    assert "tensorrt is not taken: no such operator" in caplog.text


def test_upgrade_whose_slots_do_not_fit_or_whose_pictures_cannot_be_read_says_so_too(caplog):
    def no_room(runtime):
        raise DeviceMemoryError("no room for its slots")

    def no_picture():
        raise InputError("calibration: no picture in it can be decoded.")

    for open_it, change_to in ((lambda: None, no_room), (no_picture, pytest.fail)):
        upgrade = Upgrade("tensorrt", open_it)
        upgrade.start(change_to)
        upgrade.close()
    assert "tensorrt is not taken: no room for its slots" in caplog.text
    assert "tensorrt is not taken: calibration: no picture" in caplog.text
    assert "Traceback" not in caplog.text


def test_upgrade_that_is_closed_ends_its_build():
    ended = threading.Event()
    progress = Progress(lambda share, phase: None)

    def build():
        while progress.step("kernels", 0):
            time.sleep(0.01)
        ended.set()
        raise ModelError("cancelled")

    upgrade = Upgrade("tensorrt", build, progress)
    upgrade.start(lambda runtime: None)
    upgrade.close()
    assert ended.is_set()


@pytest.mark.runtime("tensorrt")
@pytest.mark.parametrize("build", ["aside", "wait", "never"])
def test_missing_plan_is_built_aside_or_before_or_not(tmp_path, build):
    model = colour_detector(tmp_path / "m.onnx", (160, 96))
    spec = read_model_spec(model)
    options = RuntimeOptions(plans=PlanOptions(store=tmp_path / "plans"))
    if build == "never":
        with pytest.raises(PlanMissingError, match="onpace build"):
            open_now("tensorrt", model, spec, options, build)
    runtime, upgrade = open_now("auto", model, spec, options, build)
    with runtime:
        assert (runtime.name == "tensorrt") == (build == "wait")
        assert (upgrade is not None) == (build == "aside")
        if upgrade is not None:
            later = []
            upgrade.start(later.append)
            upgrade._thread.join(110)
            upgrade.close()
            assert [runtime.name for runtime in later] == ["tensorrt"]
            later[0].close()


def wait_for_results(pipeline, count):
    until = time.monotonic() + 30
    while sum(status.ledger.published for status in pipeline.status()) < count:
        assert time.monotonic() < until
        time.sleep(0.01)
