"""Recording what is enqueued on a CUDA stream, to launch all of it at once from then on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from engines.device import CudaStream, checked, driver
from engines.enqueue import launch_graph
from engines.errors import DeviceLostError, RunError

_log = logging.getLogger("onpace.cuda_graph")


class CudaGraph:
    """Recorded work. Launching it costs the processor one call. Closing twice is safe."""

    def __init__(self, executable: Any, cuda_stream: CudaStream) -> None:
        self._executable = executable
        self._handle = int(executable)
        self._cuda_stream = cuda_stream

    def launch(self) -> None:
        """Enqueue the work again, at the same addresses. Raises RunError."""
        launch_graph(self._handle, self._cuda_stream.handle)

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
        try:
            if failure is not None:
                raise failure
            _check_nodes(graph)
            executable = checked(driver().cuGraphInstantiate(graph, 0))
        finally:
            checked(driver().cuGraphDestroy(graph))
    except DeviceLostError:
        raise
    except RunError as error:
        _log.info("%s runs without a CUDA graph: %s", cuda_stream.name, failure or error)
        return None
    return CudaGraph(executable, cuda_stream)


def _check_nodes(graph: Any) -> None:
    """Raise RunError where a launch would do on the host, or allocate, what was meant to happen once."""
    _, count = checked(driver().cuGraphGetNodes(graph))
    nodes, _ = checked(driver().cuGraphGetNodes(graph, count))
    kinds = driver().CUgraphNodeType
    once = (kinds.CU_GRAPH_NODE_TYPE_HOST, kinds.CU_GRAPH_NODE_TYPE_MEM_ALLOC, kinds.CU_GRAPH_NODE_TYPE_MEM_FREE)
    for node in nodes:
        kind = checked(driver().cuGraphNodeGetType(node))
        if kind in once:
            raise RunError(f"the work holds a node {kind.name}, which must not be repeated")
