"""The driver calls of every frame and batch: they only enqueue, and keep the interpreter lock meanwhile.

``cuda.bindings`` lets the lock go around each call. These return within microseconds, and where dozens of streams
decode, getting the lock back takes many times as long.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

_POINTER = ctypes.c_uint64
_HANDLE = ctypes.c_void_p


def copy_on_device(target: int, source: int, nbytes: int, cuda_stream: int) -> None:
    """Enqueue a copy from one place on the device to another. Raises RunError."""
    code = _calls().cuMemcpyDtoDAsync_v2(target, source, nbytes, cuda_stream)
    if code:
        _raise(code)


def record_event(event: int, cuda_stream: int) -> None:
    """Have ``event`` say when ``cuda_stream`` came so far. Raises RunError."""
    code = _calls().cuEventRecord(event, cuda_stream)
    if code:
        _raise(code)


def wait_for_event(cuda_stream: int, event: int) -> None:
    """Have what is enqueued on ``cuda_stream`` from now on wait for ``event``; returns at once. Raises RunError."""
    code = _calls().cuStreamWaitEvent(cuda_stream, event, 0)
    if code:
        _raise(code)


def launch_graph(graph: int, cuda_stream: int) -> None:
    """Enqueue a graph that was made ready to run. Raises RunError."""
    code = _calls().cuGraphLaunch(graph, cuda_stream)
    if code:
        _raise(code)


@cache
def _calls() -> Any:
    library = ctypes.PyDLL("libcuda.so.1")
    for name, arguments in (
        ("cuMemcpyDtoDAsync_v2", (_POINTER, _POINTER, ctypes.c_size_t, _HANDLE)),
        ("cuEventRecord", (_HANDLE, _HANDLE)),
        ("cuStreamWaitEvent", (_HANDLE, _HANDLE, ctypes.c_uint)),
        ("cuGraphLaunch", (_HANDLE, _HANDLE)),
    ):
        call = getattr(library, name)
        call.argtypes, call.restype = arguments, ctypes.c_int
    return library


def _raise(code: int) -> None:
    from engines.device import checked, driver  # which needs this module

    checked((driver().CUresult(code),))
