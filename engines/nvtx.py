"""Names and ranges for NVIDIA's profilers (NVTX): only there where one of them is around the process.

Nsight Systems and Nsight Compute say where their part is to be found in an environment variable. Without it nothing is
loaded, and a range costs a quarter of a microsecond.
"""

from __future__ import annotations

import ctypes
import importlib.util
import logging
import os
import threading
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

_LIBRARIES = ("libnvtx3interop.so.1", "libnvToolsExt.so.1")
_TOLD_BY = ("NVTX_INJECTION64_PATH", "NVTX_INJECTION32_PATH")

_NOTHING = nullcontext()

_log = logging.getLogger("onpace.nvtx")


def profiled_range(name: str) -> AbstractContextManager[None]:
    """Show what happens inside as a range of that name in the calling thread's row."""
    library = _library()
    return _NOTHING if library is None else _Range(library, name.encode())


class _Range(AbstractContextManager[None]):
    def __init__(self, library: Any, name: bytes) -> None:
        self._library = library
        self._name = name

    def __enter__(self) -> None:
        self._library.nvtxRangePushA(self._name)

    def __exit__(self, *exception: object) -> None:
        self._library.nvtxRangePop()


def name_this_thread(name: str) -> None:
    """Let profilers call the calling thread so."""
    library = _library()
    if library is not None:
        library.nvtxNameOsThreadA(threading.get_native_id(), name.encode())


def name_cuda_stream(handle: int, name: str) -> None:
    """Let profilers call the CUDA stream with that handle so."""
    library = _library()
    if library is not None:
        library.nvtxNameCuStreamA(ctypes.c_void_p(handle), name.encode())


@lru_cache(maxsize=1)
def _library() -> Any:
    """Return NVTX where a profiler listens, else None."""
    if not any(os.environ.get(name) for name in _TOLD_BY):
        return None
    for name in (*_installed(), *_LIBRARIES):
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.nvtxRangePushA.argtypes = [ctypes.c_char_p]
        library.nvtxNameOsThreadA.argtypes = [ctypes.c_uint32, ctypes.c_char_p]
        library.nvtxNameCuStreamA.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        return library
    _log.warning('a profiler is around this process, but NVTX is not here: pip install "onpace[nvtx]" shows the stages')
    return None


def _installed() -> list[str]:
    """Return the libraries of NVIDIA's own packages, which lie beside each other under ``nvidia``."""
    spec = importlib.util.find_spec("nvidia")
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    return [str(path) for folder in folders for name in _LIBRARIES for path in Path(folder).rglob(name)]
