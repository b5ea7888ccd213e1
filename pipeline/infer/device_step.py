"""One slot's work on one batch where everything stays on the GPU: preprocess -> infer -> postprocess.

All of it is enqueued on the slot's own CUDA stream at once, then waited for. While one slot waits, another enqueues: so
the preparation of one batch, the model's run of another and the way down of a third overlap.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from engines.errors import RunError
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
    ) -> None:
        """``limits`` says which scores of a stream count. The others as in ``InferStep``."""
        super().__init__(busy, pace)
        self._slot = slot
        self._preprocess = preprocess
        self._postprocess = postprocess
        self._runs = runs
        self._limits = limits

    def close(self) -> None:
        """Give the memory back. Closing twice is safe."""
        self._postprocess.close()
        self._preprocess.close()

    def _enter(self) -> None:
        self._slot.gpu.use()

    def _work(self, batch: Batch) -> None:
        begun = monotonic()
        ready = self._prepare(batch)
        if not ready:
            return
        count, prepared = len(ready), monotonic()
        try:
            with self._pace.run(batch.taken_at):
                self._preprocess.enqueue(count)
                self._postprocess.enqueue(self._slot.enqueue(count), count)
                self._slot.synchronise()
        except Exception as error:
            # What was enqueued may still read the frames: they must not go before it is through.
            with suppress(RunError):
                self._slot.synchronise()
            batch.failed.extend(FailedFrame(frame, "infer", str(error)) for frame in ready)
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
