"""Under a profiler, threads and CUDA streams have names and stages have ranges; without one nothing is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.helpers.compilers import c_compiler
from tests.helpers.onpace_process import REPOSITORY, run_with_summary
from tests.helpers.tiny_onnx import do_nothing_detector

LISTENER = Path(__file__).parents[1] / "helpers" / "nvtx_listener.c"


@pytest.fixture
def profiler(tmp_path):
    """A profiler's part, as the environment names it, and the file of what it hears."""
    compiler = c_compiler()
    pytest.importorskip("nvidia.cu13", reason="the package nvidia-nvtx is not installed")
    library = tmp_path / "listener.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, LISTENER], check=True)
    heard = tmp_path / "heard.txt"
    return {"NVTX_INJECTION64_PATH": str(library), "NVTX_HEARD": str(heard)}, heard


def test_a_profiler_hears_stages_threads_and_cuda_streams(tmp_path, profiler):
    environment, heard = profiler
    model = do_nothing_detector(tmp_path / "nothing.onnx", size=(160, 96))
    summary = run_with_summary("pattern:?frames=20", "--model", model, "--runtime", "cpu", env=environment)
    assert summary["streams"][0]["published"] == 20
    lines = heard.read_text().splitlines()
    ranges = Counter(line for line in lines if line.startswith("push"))
    assert ranges["push decode"] == 20
    assert ranges["push infer"] == ranges["push preprocess"] >= ranges["push track, publish"] > 0
    assert lines.count("pop") == sum(ranges.values())
    named = {line.split(" ", 2)[2] for line in lines if line.startswith("thread")}
    assert {"source-pattern", "infer-0", "publish"} <= named
    script = "from engines.nvtx import name_cuda_stream as name; name(4711, 'infer-0')"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=REPOSITORY, env={**os.environ, **environment})
    assert heard.read_text() == "stream 4711 infer-0\n"


def test_without_a_profiler_nothing_is_loaded():
    script = (
        "from engines.nvtx import name_this_thread, profiled_range\n"
        "name_this_thread('x')\n"
        "with profiled_range('y'): pass\n"
        "print('nvtx3' in open('/proc/self/maps').read())"
    )
    told = {name: value for name, value in os.environ.items() if not name.startswith("NVTX_INJECTION")}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=REPOSITORY, env=told)
    assert done.stdout == "False\n", done.stderr
