"""The GPU's kernels compiled as C++ for the host: their arithmetic is tested where there is no GPU.

Threads of a block are threads here, and its barrier a barrier; blocks run one after the other.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

from tests.helpers.compilers import cpp_compiler

_HERE = Path(__file__).parent
_KERNELS = Path(__file__).parents[3] / "engines" / "kernels"


@lru_cache
def host_kernels(source: str) -> ctypes.CDLL:
    """Return ``source`` of engines/kernels as a library of this machine; skip the test where no compiler is."""
    compiler = cpp_compiler()
    folder = Path(tempfile.mkdtemp(prefix="onpace-host-kernels-"))
    try:
        library = folder / f"{source}.so"
        options = ["-std=c++20", "-O2", "-fPIC", "-shared", "-pthread", "-ffp-contract=off", "-Wno-unknown-pragmas"]
        command = [compiler, *options, "-I", str(_KERNELS), "-o", str(library), str(_HERE / f"{source}.cpp")]
        subprocess.run(command, check=True, capture_output=True, text=True)
        return ctypes.CDLL(str(library))
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # what is loaded stays loaded
