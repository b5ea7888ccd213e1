"""What a test needs of the machine: the mark ``cuda`` asks for a GPU, ``runtime("tensorrt")`` for that runtime.

Commands that a test without such a mark starts find no GPU: they do the same everywhere, and take nobody's memory.
A pipeline within the test's own process says ``runtime: cpu`` for that.

Such a test is skipped where it cannot run. On a machine that is meant to have a GPU, FAIL_WITHOUT_CUDA=1 makes the
missing GPU a failure, so that nobody takes a run of skips for a pass; so is a GPU that no runtime can use. Where one
can, the other is still skipped: TensorRT 8.6 and ONNX Runtime's CUDA build fit no Python both.
"""

from __future__ import annotations

import fcntl
import functools
import os
import signal
import tempfile
from collections.abc import Generator
from pathlib import Path
from unittest.mock import patch

import pytest

from engines.device import find_gpus, open_gpu
from engines.errors import RuntimeMissingError
from engines.runtime import RUNTIMES, runtime_class
from pipeline.decode.nvdec import Nvdec, open_nvdec


def pytest_configure() -> None:
    # Started in the background of a script, this process would ignore Ctrl-C, and so would all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Have tests that use the GPU take turns, whichever process they are in: one of them fills its memory on purpose.

    Outside of everything else, so that waiting counts towards no time limit.
    """
    if _no_gpu() is not None:
        return (yield)
    if not _uses_gpu(item):
        with patch.dict(os.environ, CUDA_VISIBLE_DEVICES=""):
            return (yield)
    with (Path(tempfile.gettempdir()) / f"onpace-tests-gpu-{os.getuid()}.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        return (yield)


@pytest.fixture
def nvdec() -> Generator[Nvdec, None, None]:
    """The GPU's decoders, for tests marked ``cuda``."""
    opened = open_nvdec(open_gpu(), "gpu")
    assert opened is not None
    yield opened
    opened.close()


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("runtime"):
        name = mark.args[0]
        reason = _runtime_problem(name)
        if reason is None:
            continue
        if name != "cpu" and (reasons := _no_gpu_runtime()) is not None:
            _give_up(f"no runtime can use a GPU: {reasons}", fail=True)
        _give_up(f"runtime {name}: {reason}", fail=False)
    if item.get_closest_marker("cuda") and _no_gpu() is not None:
        _give_up(f"no GPU: {_no_gpu()}", fail=True)


def _uses_gpu(item: pytest.Item) -> bool:
    runtimes = [mark.args[0] for mark in item.iter_markers("runtime")]
    return item.get_closest_marker("cuda") is not None or any(name != "cpu" for name in runtimes)


def _give_up(reason: str, *, fail: bool) -> None:
    if fail and os.environ.get("FAIL_WITHOUT_CUDA") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@functools.cache
def _no_gpu() -> str | None:
    try:
        return None if find_gpus() else "there is none here"
    except RuntimeMissingError as error:
        return str(error)


def _no_gpu_runtime() -> str | None:
    """Return why none of the runtimes that use a GPU works here; None where one does."""
    problems = {name: _runtime_problem(name) for name in RUNTIMES if name != "cpu"}
    if None in problems.values():
        return None
    return " ".join(f"{name}: {problem}" for name, problem in problems.items())


@functools.cache
def _runtime_problem(name: str) -> str | None:
    reason: str | None = runtime_class(name).why_not()
    return reason
