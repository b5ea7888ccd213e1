"""How the CPU runtime chooses its shape, and how it counts cores."""

from __future__ import annotations

import time

import pytest

from engines.cores import usable_cores
from engines.cpu_runtime import CpuRuntime
from engines.faster_shape import faster_shape
from engines.inspect_model import read_model_spec
from engines.runtime import RuntimeOptions
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
    assert shape == "latency"
    assert "one live stream" in why
    assert faster_shape([runs[30]] * 2, runs[30], latency_counts=True, budget_seconds=0.6)[0] == "throughput"


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
