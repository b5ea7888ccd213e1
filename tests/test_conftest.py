"""Tests that use a GPU do so one after the other, though several processes run them; others find none."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

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
