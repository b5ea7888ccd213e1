"""Tests that use a GPU do so one after the other, though several processes run them; others find none.

On a machine that is meant to have a GPU, a run whose tests of runtimes all skip does not pass.
"""

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]

CONFTEST = """
import sys
sys.path.insert(0, {repository!r})
from tests import conftest
from tests.conftest import pytest_runtest_protocol
conftest._no_gpu = lambda: None  # as where there is one
"""

TESTS = """
import os
import time
from pathlib import Path
import pytest

@pytest.mark.cuda
@pytest.mark.parametrize("number", range(4))
def test_it(number):
    begun = time.monotonic()
    time.sleep(0.2)
    with Path({log!r}).open("a") as log:
        print(begun, time.monotonic(), file=log)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ

def test_without_the_mark_what_is_started_finds_none():
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
"""


def test_tests_on_a_gpu_take_turns_and_others_find_none(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    log = tmp_path / "log"
    (tmp_path / "conftest.py").write_text(CONFTEST.format(repository=str(REPOSITORY)))
    (tmp_path / "test_gpu.py").write_text(TESTS.format(log=str(log)))
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  cuda: needs a GPU\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_gpu.py"]
    both = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for one in both:
        said, _ = one.communicate(timeout=60)
        assert one.returncode == 0, said
    turns = sorted(tuple(map(float, line.split())) for line in log.read_text().splitlines())
    assert len(turns) == 8
    assert all(ended <= begun for (_, ended), (begun, _) in pairwise(turns))


RUNTIMES_CONFTEST = """
import sys
sys.path.insert(0, {repository!r})
from tests import conftest
from tests.conftest import pytest_runtest_setup
conftest._runtime_problem = {problems!r}.get
"""

RUNTIMES_TESTS = """
import pytest

@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.runtime(name)) for name in {names!r}])
def test_it(name): pass
"""

NO_CUDA, NO_TENSORRT = "ONNX Runtime has no CUDA here.", "TensorRT is not installed."


@pytest.mark.parametrize(
    ("problems", "fail_without", "outcome"),
    [
        ({"cuda": NO_CUDA, "tensorrt": NO_TENSORRT}, "1", "1 passed, 2 errors"),
        ({"cuda": NO_CUDA, "tensorrt": NO_TENSORRT}, "0", "1 passed, 2 skipped"),
        ({"cuda": NO_CUDA}, "1", "2 passed, 1 skipped"),
        ({"tensorrt": NO_TENSORRT}, "1", "2 passed, 1 skipped"),
        ({"cpu": "ONNX Runtime is missing."}, "1", "2 passed, 1 skipped"),
        ({}, "1", "3 passed"),
    ],
)
def test_no_runtime_that_can_use_a_gpu_is_a_failure_where_one_is_expected(tmp_path, problems, fail_without, outcome):
    (tmp_path / "conftest.py").write_text(RUNTIMES_CONFTEST.format(repository=str(REPOSITORY), problems=problems))
    (tmp_path / "test_runtimes.py").write_text(RUNTIMES_TESTS.format(names=("cuda", "tensorrt", "cpu")))
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  runtime: needs this runtime\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_runtimes.py"]
    environment = {**os.environ, "FAIL_WITHOUT_CUDA": fail_without}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert run.stdout.splitlines()[-1].startswith(f"{outcome} in ")
    assert (run.returncode != 0) == ("errors" in outcome)
    if "errors" in outcome:
        assert f"cuda: {NO_CUDA}" in run.stdout and f"tensorrt: {NO_TENSORRT}" in run.stdout
