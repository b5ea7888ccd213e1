"""Recording what a library enqueues on a CUDA stream, to launch all of it at once from then on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from engines.device import CudaStream, checked, driver
from engines.errors import RunError

_log = logging.getLogger("onpace.cuda_graph")


class CudaGraph:
    """Recorded work. Launching it costs the processor one call. Closing twice is safe."""

    def __init__(self, executable: Any, cuda_stream: CudaStream) -> None:
        self._executable = executable
        self._cuda_stream = cuda_stream

    def launch(self) -> None:
        """Enqueue the work again, at the same addresses. Raises RunError."""
        checked(driver().cuGraphLaunch(self._executable, self._cuda_stream.handle))

    def close(self) -> None:
        """Give it back; it must not be running."""
        if self._executable is not None:
            driver().cuGraphExecDestroy(self._executable)
            self._executable = None


def capture(cuda_stream: CudaStream, enqueue: Callable[[], None]) -> CudaGraph | None:
    """Record what ``enqueue`` enqueues on ``cuda_stream``; None where it does something that cannot be recorded.

    It must have run once before: what libraries set up on the first run cannot be recorded.
    """
    mode = driver().CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    checked(driver().cuStreamBeginCapture(cuda_stream.handle, mode))
    failure: Exception | None = None
    try:
        enqueue()
    except Exception as error:
        failure = error
    try:
        graph = checked(driver().cuStreamEndCapture(cuda_stream.handle))
        if failure is not None:
            raise failure
        executable = checked(driver().cuGraphInstantiate(graph, 0))
        checked(driver().cuGraphDestroy(graph))
    except RunError as error:
        _log.info("%s runs without a CUDA graph: %s", cuda_stream.name, error)
        return None
    return CudaGraph(executable, cuda_stream)
