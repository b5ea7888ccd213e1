"""How the CPU runtime chooses its shape, and how it counts cores."""

from __future__ import annotations

import time
from contextlib import ExitStack

import numpy as np
import pytest

from engines.cores import usable_cores
from engines.cpu_runtime import CpuRuntime
from engines.errors import RuntimeMissingError
from engines.faster_shape import faster_shape
from engines.inspect_model import read_model_spec
from engines.runtime import RuntimeOptions, for_any_runtime, open_meanwhile, open_runtime
from engines.shape_by_load import EitherSlot, ShapeByLoad
from tests.helpers.tiny_onnx import do_nothing_detector, working_detector


@pytest.mark.parametrize(
    ("options", "slots", "said"),
    [
        (RuntimeOptions(prefer="throughput", threads=3), 3, "3 slots of one thread each"),
        (RuntimeOptions(prefer="latency", threads=3), 2, "one run of 3 threads at a time"),
        (RuntimeOptions(threads=1), 1, "there is one core"),
    ],
)
def test_shape_follows_the_wish(tmp_path, options, slots, said):
    model = do_nothing_detector(tmp_path / "m.onnx", (96, 96))
    with CpuRuntime(model, read_model_spec(model), options) as runtime:
        assert len(runtime.slots) == slots
        assert said in runtime.describe()


def test_auto_measures_and_says_the_numbers_in_little_time(tmp_path):
    model = working_detector(tmp_path / "m.onnx", (416, 416), layers=4)  # long enough to be worth sharing
    begun = time.monotonic()
    with CpuRuntime(model, read_model_spec(model), RuntimeOptions(threads=2, streams=4, live=True)) as runtime:
        assert "runs/s narrow" in runtime.describe()
    assert time.monotonic() - begun < 5  # 1 s of measuring; the rest is for a busy machine


def test_measurement_takes_the_faster_shape():
    slow, fast = (lambda _: time.sleep(0.02)), (lambda _: time.sleep(0.005))
    assert faster_shape([slow, slow], fast, budget_seconds=0.3)[0] == "latency"
    assert faster_shape([fast, fast], slow, budget_seconds=0.3)[0] == "throughput"


def test_one_live_stream_gets_short_runs_unless_they_gain_little():
    runs = {ms: (lambda _, ms=ms: time.sleep(ms / 1000)) for ms in (20, 30)}
    # Two narrow runs of 30 ms at once are more a second than runs of 20 ms, but each picture waits longer.
    assert faster_shape([runs[30]] * 2, runs[20], budget_seconds=0.6)[0] == "throughput"
    shape, why = faster_shape([runs[30]] * 2, runs[20], latency_counts=True, budget_seconds=0.6)
    assert shape == "by_load"
    assert "one live stream" in why
    assert faster_shape([runs[30]] * 2, lambda _: time.sleep(0.005), latency_counts=True, budget_seconds=0.6)[0] == (
        "latency"  # no number of runs a second makes up for an answer that is six times as old
    )
    assert faster_shape([runs[30]] * 2, runs[30], latency_counts=True, budget_seconds=0.6)[0] == "throughput"


def test_wide_runs_give_way_while_they_are_used_up_and_come_back_when_they_would_keep_up():
    now = [0.0]
    by_load = ShapeByLoad(clock=lambda: now[0])
    shapes = []

    def run(shape, seconds):
        def go():
            shapes.append(shape)
            now[0] += seconds
            return {}

        return go

    def play(seconds, fps):
        shapes.clear()
        until = now[0] + seconds
        while now[0] < until:
            begun = now[0]
            by_load.run(run("wide", 0.04), run("narrow", 0.005))  # several at once: less than its length for each
            now[0] = max(now[0], begun + 1 / fps)
        return shapes[-1]

    assert play(10, fps=15) == "wide"
    assert play(10, fps=30) == "narrow"
    assert play(10, fps=20) == "narrow"  # as many as would just do: no change to and fro
    assert play(10, fps=15) == "wide"


def test_wide_and_narrow_runs_of_a_slot_agree(tmp_path):
    model = working_detector(tmp_path / "m.onnx", (416, 416), layers=2)
    spec = read_model_spec(model)
    with ExitStack() as opened:
        wide, narrow = (
            opened.enter_context(CpuRuntime(model, spec, RuntimeOptions(prefer=prefer, threads=2))).slots[0]
            for prefer in ("latency", "throughput")
        )
        by_load = ShapeByLoad()
        slot = EitherSlot(wide, narrow, by_load)
        slot.input[:] = narrow.input[:] = np.random.default_rng(0).random(slot.input.shape)
        found = []
        for by_load.wide in (True, False):
            found.append({name: array.copy() for name, array in slot.run(1).items()})
    for name, array in found[0].items():
        np.testing.assert_allclose(found[1][name], array, atol=1e-4)


def test_runs_too_short_to_share_stay_narrow():
    slow, fast = (lambda _: sum(range(300))), (lambda _: None)
    shape, why = faster_shape([slow, slow], fast, budget_seconds=0.3)
    assert shape == "short"
    assert "too short" in why


def test_failure_while_measuring_is_raised():
    def fail(batch_size):
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        faster_shape([fail, fail], fail)


@pytest.mark.parametrize(
    ("files", "most"),
    [
        ({"cpu.max": "max 100000\n"}, 10_000),
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "20000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 10_000),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({}, 10_000),
    ],
)
def test_container_quota_limits_the_cores(tmp_path, files, most):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert 1 <= usable_cores(tmp_path) <= most


@pytest.mark.parametrize("precision", ["bf16", "fp8"])
def test_precisions_of_tensorrt_are_refused_here_and_left_out_while_it_builds(tmp_path, precision):
    model = do_nothing_detector(tmp_path / "m.onnx", (96, 96))
    spec, options = read_model_spec(model), RuntimeOptions(threads=1, precision=precision)
    with pytest.raises(RuntimeMissingError, match=rf"'cpu' runs no {precision}\. Allowed there: fp32, fp16, int8;"):
        open_runtime("cpu", model, spec, options)
    with open_meanwhile("tensorrt", model, spec, for_any_runtime(options)) as meanwhile:
        assert meanwhile.slots[0].run(1)["output0"].dtype == "float32"
