"""A plan is built in a process of its own: it can be ended at once, and takes nobody with it. With TensorRT for RTX."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace

import psutil
import pytest

from engines.build_process import BuildTask, build_in_process, for_want_of_memory
from engines.child import python_module
from engines.errors import DeviceMemoryError, ModelError, PlanBuildError, RunError
from engines.inspect_model import read_model_spec
from engines.plan_building import PlanBuilder
from engines.runtime import PlanOptions, RuntimeOptions
from engines.shape_profile import ShapeProfile
from engines.trt.options import BuildOptions
from engines.trt.progress import Progress
from tests.helpers.yolo_onnx import yolo_detector

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (extra: test)")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Large enough that its build is still going on when the first step of it is told."""
    return yolo_detector(tmp_path_factory.mktemp("model") / "m.onnx", width=0.25, size=(320, 256))


def builder(model, store, progress=None):
    options = RuntimeOptions(plans=PlanOptions(store=store, progress=progress))
    return PlanBuilder.open(model, read_model_spec(model), options, to_run=False)


def builders():
    return [child for child in psutil.Process().children() if "engines.build_process" in child.cmdline()]


def when_building(act):
    """Return what calls ``act`` once, when the builder itself has begun."""
    done = []

    def tell(share, phase):
        if not done:
            done.append(share)
            act()

    return tell


def test_cancelled_build_ends_at_once_leaves_nothing_and_the_next_one_builds(model, tmp_path):
    cancelled_at = []

    def cancel():
        cancelled_at.append(time.monotonic())
        progress.cancel()

    progress = Progress(when_building(cancel))
    with pytest.raises(RunError, match="building was cancelled"):
        builder(model, tmp_path, progress).find_or_build()
    assert time.monotonic() - cancelled_at[0] < 2
    assert not builders()
    assert not list(tmp_path.glob("*.plan")) and not list(tmp_path.glob(".*"))
    assert builder(model, tmp_path).find_or_build().read()


def test_builder_that_was_killed_is_an_error_that_says_what_to_do(model, tmp_path):
    progress = Progress(when_building(lambda: [process.kill() for process in builders()]))
    with pytest.raises(DeviceMemoryError, match=r"ended with signal 9.*memory.*--batch 4\."):
        builder(model, tmp_path, progress).find_or_build()
    assert builder(model, tmp_path).find_or_build().read()


def test_nothing_is_imported_from_the_folder_that_it_is_started_in(tmp_path, monkeypatch):
    (tmp_path / "pickle.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    done = subprocess.run(
        python_module("engines.build_process"), stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
    )
    assert b"EOFError" in done.stderr  # it came as far as asking for its task
    assert b"imported" not in done.stderr


def test_what_the_builder_complains_about_keeps_its_kind(model, tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    task = BuildTask("tensorrt_rtx", None, broken, read_model_spec(model), ShapeProfile(), BuildOptions())
    with pytest.raises(ModelError, match=r"tensorrt_rtx .* cannot take it"):
        build_in_process(task)


def test_failure_on_a_full_gpu_is_told_as_want_of_memory_with_the_batch_to_try(model):
    odd = PlanBuildError("model m: tensorrt 8.6.0 cannot build it: Cuda Runtime (invalid resource handle).")
    spec, shapes = read_model_spec(model), ShapeProfile(1, 256, 256)
    told = for_want_of_memory(odd, 600 << 20, spec, shapes)
    assert isinstance(told, DeviceMemoryError)
    assert "invalid resource handle" in str(told) and "600 MiB free" in str(told) and "--batch 128" in str(told)
    for free in (2 << 30, None):
        assert for_want_of_memory(odd, free, spec, shapes) is odd
    fixed = str(for_want_of_memory(odd, 600 << 20, replace(spec, max_batch=256), ShapeProfile(256, 256, 256)))
    assert "The file fixes its batch at 256: export it with a smaller one" in fixed and "--batch" not in fixed


ENDS_WHILE_BUILDING = """
import sys, threading, time
from pathlib import Path
from engines.trt.progress import Progress
from pipeline.infer.upgrade import Upgrade
from tests.engines.test_build_process import builder, builders
model, store, how = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
begun = threading.Event()
progress = Progress(lambda share, phase: begun.set())
upgrade = Upgrade("tensorrt", lambda: builder(model, store, progress).find_or_build(), progress)
upgrade.start(lambda plan: print("built"))
assert begun.wait(60)
print(builders()[0].pid, flush=True)
if how == "close":
    upgrade.close()
elif how == "wait":
    time.sleep(60)
"""


@pytest.mark.parametrize("how", ["close", "just end"])
def test_process_that_ends_while_a_plan_is_built_ends_well_and_at_once(model, tmp_path, how):
    command = [sys.executable, "-c", ENDS_WHILE_BUILDING, str(model), str(tmp_path), how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert "built" not in done.stdout
    assert not done.stderr
    wait_until_gone(int(done.stdout))
    assert not list(tmp_path.glob("*.plan"))


def test_builder_ends_when_whoever_asked_was_killed(model, tmp_path):
    command = [sys.executable, "-c", ENDS_WHILE_BUILDING, str(model), str(tmp_path), "wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as asking:
        pid = int(asking.stdout.readline())
        asking.kill()
    wait_until_gone(pid)
    assert builder(model, tmp_path).find_or_build().read()  # nobody holds its lock


def wait_until_gone(pid):
    until = time.monotonic() + 20
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until
        time.sleep(0.02)
