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


class _CopyAttributes(ctypes.Structure):
    """``CUmemcpyAttributes``."""

    _fields_ = (
        ("source_order", ctypes.c_int),
        ("source_hint", ctypes.c_int * 2),
        ("target_hint", ctypes.c_int * 2),
        ("flags", ctypes.c_uint),
    )


_IN_STREAM_ORDER, _BESIDE_KERNELS = 1, 1
_ASIDE = _CopyAttributes(source_order=_IN_STREAM_ORDER, flags=_BESIDE_KERNELS)
_FROM_THE_FIRST = ctypes.c_size_t(0)


def copy_on_device(target: int, source: int, nbytes: int, cuda_stream: int) -> None:
    """Enqueue a copy from one place on the device to another. Raises RunError.

    By an engine for copies where the driver can be asked to (from CUDA 13 on), which leaves the multiprocessors to
    the networks.
    """
    aside = _copy_aside()
    if aside is None:
        code = _calls().cuMemcpyDtoDAsync_v2(target, source, nbytes, cuda_stream)
    else:
        places = ctypes.byref(_POINTER(target)), ctypes.byref(_POINTER(source)), ctypes.byref(ctypes.c_size_t(nbytes))
        how = ctypes.byref(_ASIDE), ctypes.byref(_FROM_THE_FIRST), 1
        code = aside(*places, 1, *how, cuda_stream)
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


@cache
def _copy_aside() -> Any:
    """Return ``cuMemcpyBatchAsync``, None where the driver has none."""
    call = getattr(_calls(), "cuMemcpyBatchAsync_v2", None)
    if call is not None:
        lists, size = (_HANDLE,) * 3, ctypes.c_size_t
        call.argtypes, call.restype = (*lists, size, _HANDLE, _HANDLE, size, _HANDLE), ctypes.c_int
    return call


def _raise(code: int) -> None:
    from engines.device import checked, driver  # which needs this module

    checked((driver().CUresult(code),))
