"""A kernel that writes where it must not breaks CUDA for the whole process: the run ends by itself, and says so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.helpers.onpace_process import REPOSITORY, OnpaceProcess, balanced
from tests.helpers.tiny_onnx import colour_detector

pytestmark = [pytest.mark.e2e, pytest.mark.cuda, pytest.mark.timeout(180)]

POKE = """
def poke():
    from cuda.core import LaunchConfig, Program, ProgramOptions, launch
    import numpy as np
    from engines.device import open_gpu
    gpu = open_gpu()
    major, minor = gpu.compute_capability
    source = 'extern "C" __global__ void poke(int *where) { *where = 1; }'
    kernel = Program(source, "c++", ProgramOptions(arch=f"sm_{major}{minor}")).compile("cubin").get_kernel("poke")
    launch(gpu.new_stream("poke").stream, LaunchConfig(grid=1, block=1), kernel, np.uint64(16))
"""
"""Defines ``poke``, which writes to an address that nobody may write to."""

RUN_AND_POKE = f"""
import sys, threading, time
from pathlib import Path
{POKE}
def poke_once_it_publishes():
    while not published.is_file() or not published.stat().st_size:
        time.sleep(0.1)
    time.sleep(1.0)
    poke()

from pipeline.cli.main import main
published = Path(sys.argv.pop())
threading.Thread(target=poke_once_it_publishes, daemon=True).start()
main()
"""

POKE_A_WORKER = f"""
import os, sys, threading, time
{POKE}
def poke_when_asked():
    asked = os.environ["ONPACE_TEST_POKE"]
    while True:
        time.sleep(0.1)
        spec = getattr(sys.modules.get("__main__"), "__spec__", None)
        if os.path.exists(asked) and spec is not None and spec.name == "pipeline.workers.child":
            try:
                os.rename(asked, asked + ".done")  # one process does, and once
            except FileNotFoundError:
                return
            return poke()

if "ONPACE_TEST_POKE" in os.environ:
    threading.Thread(target=poke_when_asked, daemon=True).start()
"""
"""As ``sitecustomize``, which every Python process of that environment runs first."""


@pytest.mark.parametrize(
    "runtime", [pytest.param(name, marks=pytest.mark.runtime(name)) for name in ("cuda", "tensorrt")]
)
def test_an_illegal_write_ends_the_run_with_its_reason_and_every_frame_accounted_for(tmp_path, runtime):
    model = colour_detector(tmp_path / "m.onnx", (320, 256))
    config = tmp_path / "onpace.yaml"
    config.write_text(
        "streams: [{id: a, url: 'pattern:'}, {id: b, url: 'pattern:'}]\n"
        f"infer: {{model: {model}, runtime: {runtime}}}\n"
        f"engine: {{build: wait, optimisation_level: 0, store: {tmp_path / 'plans'}}}\n"
        f"publish: {{sinks: ['jsonl:{tmp_path / 'out.jsonl'}']}}\n"
    )
    summary = tmp_path / "summary.json"
    arguments = ["run", str(config), "--for", "100s", "--summary", str(summary)]
    done = subprocess.run(
        [sys.executable, "-c", RUN_AND_POKE, *arguments, str(tmp_path / "out.jsonl")],
        capture_output=True,
        text=True,
        timeout=150,
        cwd=REPOSITORY,
    )
    assert done.returncode == 1, done.stderr[-3000:]
    assert "the GPU is lost to this process" in done.stderr
    assert "workers" in done.stderr
    told = json.loads(summary.read_text())
    assert "CUDA_ERROR_ILLEGAL_ADDRESS" in told["error"]
    assert told["duration_seconds"] < 90
    assert all(stream["published"] > 0 and balanced(stream) for stream in told["streams"])


@pytest.mark.runtime("cuda")
def test_with_workers_the_one_that_lost_the_gpu_comes_back_and_the_run_goes_on(tmp_path):
    model, out, summary = colour_detector(tmp_path / "m.onnx", (320, 256)), tmp_path / "out.jsonl", tmp_path / "s.json"
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(POKE_A_WORKER)
    path = os.pathsep.join([str(tmp_path / "site"), str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    config = tmp_path / "onpace.yaml"
    names = ["a", "b", "c", "d"]
    streams = ", ".join(f"{{id: {name}, url: 'pattern:', realtime: true}}" for name in names)
    config.write_text(
        f"streams: [{streams}]\nworkers: {{count: 2}}\ninfer: {{model: {model}, runtime: cuda}}\n"
        f"publish: {{sinks: ['jsonl:{out}']}}\n"
    )
    environment = {"PYTHONPATH": path, "ONPACE_TEST_POKE": str(tmp_path / "poke")}

    def published_since(utc):
        messages = [json.loads(line) for line in out.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [m["stream_id"] for m in messages if m["kind"] == "detections" and m["published_utc"] > utc]

    def wait_for(condition, seconds):
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, process.stderr[-3000:]
            time.sleep(0.2)

    with OnpaceProcess("run", config, "--summary", summary, env=environment) as process:
        wait_for(lambda: out.is_file() and set(published_since(0.0)) == set(names), 60)
        (tmp_path / "poke").touch()
        process.wait_for("device lost", 30)
        lost_at = time.time()
        wait_for(lambda: all(published_since(lost_at).count(name) > 20 for name in names), 60)
        process.signal(signal.SIGTERM)
        assert process.wait(30) == 0, process.stderr[-3000:]
    done = json.loads(summary.read_text())["streams"]
    assert all(balanced(stream) for stream in done), done
    assert sum(stream["reconnects"] for stream in done) == 2  # the streams of one worker
