"""One slot's work on one batch where everything stays on the GPU: preprocess -> infer -> postprocess.

All of it is enqueued on the slot's own CUDA stream at once, then waited for. While one slot waits, another enqueues: so
the preparation of one batch, the model's run of another and the way down of a third overlap.

Where it can be recorded, each batch size has one CUDA graph for the whole way. What differs from batch to batch (where
the pictures lie, how they are letterboxed, which scores count) stands in the table of pictures, which the graph uploads
first: the host writes the table, launches one graph, and waits for one event.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress

from engines.cuda_graph import CudaGraph
from engines.cuda_marks import CudaMarks
from engines.errors import RunError
from engines.nvtx import profiled_range
from engines.runtime import DeviceSlot
from pipeline.clock import monotonic
from pipeline.detections import Detections, ScoreLimits
from pipeline.frame import Frame
from pipeline.infer.batch import Batch, FailedFrame, InferredFrame
from pipeline.infer.infer_step import SlotStep
from pipeline.infer.run_pace import RunPace
from pipeline.keepup.load import BusyClock
from pipeline.postprocess.device import DevicePostprocess
from pipeline.preprocess.device import DevicePreprocess
from pipeline.timeline.timeline import Timeline, Track

_GPU_SPANS = ("upload", "preprocess", "inference", "heads", "download")
"""What the GPU does for a batch, in order. ``upload`` holds the wait for pictures that are still being decoded, too."""

_MOST_RECORDED = 64
"""Frames of the largest batch that is recorded: launching is next to nothing of a larger one."""

_log = logging.getLogger("onpace.infer")


class DeviceInferStep(SlotStep):
    """Prepares, runs and reads batches in one slot of a GPU. Passive and not thread-safe: one per slot.

    A frame that cannot be prepared or read fails alone; a run that fails costs its batch.
    """

    def __init__(
        self,
        slot: DeviceSlot,
        preprocess: DevicePreprocess,
        postprocess: DevicePostprocess,
        busy: BusyClock,
        runs: BusyClock,
        pace: RunPace,
        limits: Callable[[str], ScoreLimits],
        room: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """``limits`` says which scores of a stream count. The others as in ``InferStep``.

        ``room`` is entered to warm up, and says which batch to try where memory runs out meanwhile.
        """
        super().__init__(busy, pace)
        self._slot = slot
        self._preprocess = preprocess
        self._postprocess = postprocess
        self._runs = runs
        self._limits = limits
        self._room = room
        self._graphs: dict[int, CudaGraph] = {}
        self._marks: CudaMarks | None = None
        self._gpu_track: Track | None = None

    def show_on(self, timeline: Timeline, name: str) -> None:
        """Note on ``timeline`` what the host does, and on another track what the GPU does."""
        super().show_on(timeline, name)
        gpu = self._slot.gpu
        self._gpu_track = timeline.track(name, f"GPU {gpu.index}: {gpu.name}")
        self._marks = CudaMarks(self._slot.cuda_stream, len(_GPU_SPANS) + 1)

    def warm_up(self) -> None:
        """Run batches of every size without a picture, and record those that are small enough to gain by it.

        Raises RunError; DeviceMemoryError with the batch to try.
        """
        self._slot.gpu.use()
        with self._room():
            self._run_and_record(self._preprocess.pictures.shape[0])

    def _run_and_record(self, most: int) -> None:
        for count in range(most, 0, -1):  # the largest sizes what grows
            self._enqueue(count)
            self._slot.synchronise()
            if count > _MOST_RECORDED:
                continue
            graph = self._slot.record(lambda count=count: self._enqueue(count))  # type: ignore[misc]
            if graph is None:
                return
            self._graphs[count] = graph
        _log.debug("%s: batches of 1 to %d are recorded", self._slot.cuda_stream.name, min(most, _MOST_RECORDED))

    @property
    def recorded(self) -> int:
        """Batch sizes that are launched as one graph."""
        return len(self._graphs)

    def close(self) -> None:
        """Give the memory back. Closing twice is safe."""
        for graph in self._graphs.values():
            graph.close()
        self._graphs.clear()
        if self._marks is not None:
            self._marks.close()
        self._postprocess.close()
        self._preprocess.close()

    def _enter(self) -> None:
        self._slot.gpu.use()

    def _work(self, batch: Batch) -> None:
        begun = monotonic()
        ready = batch.frames  # all of them fail where not even the first mark can be recorded
        try:
            self._mark(0)
            with profiled_range("preprocess"):
                ready = self._prepare(batch)
            count, prepared = len(ready), monotonic()
            if not ready:
                self._slot.synchronise()
                return
            with self._pace.run(batch.taken_at), profiled_range("infer"):
                graph = self._graphs.get(count)
                if graph is None:
                    self._enqueue(count)
                else:
                    graph.launch()
                self._slot.synchronise()
        except Exception as error:
            # What was enqueued may still read the frames: they must not go before it is through.
            with suppress(RunError):
                self._slot.synchronise()
            self._lost = self._slot.cuda_stream.lost()
            batch.failed.extend(FailedFrame(frame, "infer", str(self._lost or error)) for frame in ready)
            return
        ended = monotonic()
        self._runs.add(prepared, ended)
        results = self._postprocess.read(count)
        preprocess_seconds, infer_seconds = (prepared - begun) / count, ended - prepared
        postprocess_seconds = (monotonic() - ended) / count
        for frame, found in zip(ready, results, strict=True):
            if isinstance(found, Detections):
                times = (preprocess_seconds, infer_seconds, postprocess_seconds)
                batch.inferred.append(InferredFrame(frame, found, *times))
            else:
                batch.failed.append(FailedFrame(frame, "postprocess", str(found)))
        self._note("preprocess", begun, prepared)
        self._note("infer", prepared, ended, ready, "t")
        self._note("postprocess", ended, monotonic())
        self._note_gpu(ready)

    def _enqueue(self, count: int) -> None:
        self._preprocess.upload(count)
        self._mark(1)
        self._preprocess.enqueue(count)
        self._mark(2)
        outputs = self._slot.enqueue(count)
        self._mark(3)
        self._postprocess.enqueue(outputs, count)
        self._mark(4)
        self._postprocess.download(count)
        self._mark(5)

    def _mark(self, index: int) -> None:
        if self._marks is not None and self._gpu_track is not None:
            self._marks.record(index)

    def _note_gpu(self, frames: list[Frame]) -> None:
        """Note what the GPU did for the batch just done; never again where CUDA cannot tell."""
        if self._marks is None or self._gpu_track is None:
            return
        try:
            times = self._marks.times()
        except RunError as error:
            self._gpu_track = None  # the marks stay until the end: recorded graphs hold on to them
            _log.warning("--trace: what the GPU does is not noted any more: %s", error)
            return
        for name, begun, ended in zip(_GPU_SPANS, times, times[1:], strict=False):
            self._gpu_track.span(name, begun, ended, frames if name == "inference" else ())

    def _prepare(self, batch: Batch) -> list[Frame]:
        ready: list[Frame] = []
        for frame in batch.frames:
            try:
                self._preprocess.add(frame, len(ready), self._postprocess.scores(self._limits(frame.stream_id)))
            except Exception as error:
                batch.failed.append(FailedFrame(frame, "preprocess", f"{type(error).__name__}: {error}"))
            else:
                ready.append(frame)
        return ready
