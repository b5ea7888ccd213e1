"""The compilers that tests use: the machine's own for C and C++, and NVRTC, which needs no GPU.

Where one is missing, the test that asks is skipped. FAIL_WITHOUT_COMPILERS=1 fails it instead.
"""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def c_compiler() -> str:
    """Return the C compiler's path."""
    return shutil.which("cc") or shutil.which("gcc") or _give_up("no C compiler: install the package 'gcc'")


def cpp_compiler() -> str:
    """Return the C++ compiler's path."""
    return shutil.which("g++") or shutil.which("clang++") or _give_up("no C++ compiler: install the package 'g++'")


def need_nvrtc() -> None:
    """Return where kernels can be compiled for every architecture."""
    try:
        import cuda.core  # noqa: F401
        from cuda.bindings import nvrtc
        from cuda.pathfinder import DynamicLibNotFoundError
    except ImportError as error:
        _give_up(f"no NVRTC: {error}. Install the extra 'test'")
    try:
        _, major, minor = nvrtc.nvrtcVersion()
    except DynamicLibNotFoundError:
        _give_up("no NVRTC: install nvidia-cuda-nvrtc (extra: test)")
    if major < 13:
        _give_up(f"NVRTC {major}.{minor} does not know every architecture: install nvidia-cuda-nvrtc 13 (extra: test)")


def _give_up(reason: str) -> NoReturn:
    if os.environ.get("FAIL_WITHOUT_COMPILERS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
