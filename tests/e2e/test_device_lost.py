"""A kernel that writes where it must not breaks CUDA for the whole process: the run ends by itself, and says so."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.helpers.onpace_process import REPOSITORY, balanced
from tests.helpers.tiny_onnx import colour_detector

pytestmark = [pytest.mark.e2e, pytest.mark.cuda, pytest.mark.timeout(180)]

RUN_AND_POKE = """
import sys, threading, time
from pathlib import Path
from engines.device import open_gpu

def poke():
    while not published.is_file() or not published.stat().st_size:
        time.sleep(0.1)
    time.sleep(1.0)
    from cuda.core import LaunchConfig, Program, ProgramOptions, launch
    import numpy as np
    gpu = open_gpu()
    major, minor = gpu.compute_capability
    source = 'extern "C" __global__ void poke(int *where) { *where = 1; }'
    kernel = Program(source, "c++", ProgramOptions(arch=f"sm_{major}{minor}")).compile("cubin").get_kernel("poke")
    launch(gpu.new_stream("poke").stream, LaunchConfig(grid=1, block=1), kernel, np.uint64(16))

from pipeline.cli.main import main
published = Path(sys.argv.pop())
threading.Thread(target=poke, daemon=True).start()
main()
"""


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
