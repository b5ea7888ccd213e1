"""One slot's work on one batch: preprocess -> infer -> postprocess."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence

from engines.errors import DeviceLostError
from engines.nvtx import profiled_range
from engines.runtime import Slot, Tensors
from pipeline.clock import monotonic
from pipeline.detections import ScoreLimits
from pipeline.errors import StageError
from pipeline.frame import Frame
from pipeline.infer.batch import Batch, FailedFrame, InferredFrame
from pipeline.infer.batcher import Batcher
from pipeline.infer.in_order import InOrder
from pipeline.infer.notices import Notices
from pipeline.infer.run_pace import RunPace
from pipeline.keepup.load import BusyClock
from pipeline.letterbox import Letterbox
from pipeline.postprocess.postprocess import Postprocess
from pipeline.preprocess.host import HostPreprocess
from pipeline.timeline.timeline import Flow, Timeline, Track

_FAILURES_IN_A_ROW = 10
"""After so many batches without one result the model is not going to recover."""

_SHORT_RUNS_A_BATCH = 4
"""Where a run is over sooner than its frame is handed over, so many are taken and handed on together."""

_log = logging.getLogger("onpace.infer")


class SlotStep(ABC):
    """Takes batches for one slot and hands them on; how a batch is worked on is the subclass's."""

    def __init__(self, busy: BusyClock, pace: RunPace) -> None:
        self._busy = busy
        self._pace = pace
        self._failures = 0
        self._has_worked = False
        self._lost: DeviceLostError | None = None
        self._track: Track | None = None
        self._notices = Notices()

    def run(
        self,
        batcher: Batcher,
        in_order: InOrder,
        taken: Callable[[str, int], None],
        *,
        most: int | None = None,
        retired: threading.Event | None = None,
        slots: int = 1,
    ) -> None:
        """Take batches and hand them on until none will come, or ``retired`` is set. Raises DeviceLostError.

        ``taken`` hears of how many frames of a stream leave its queue. ``most``: frames of a run of the model;
        ``slots``: how many take.
        """
        try:
            self._enter()
            while True:
                self._pace.wait_until_due()
                batch = batcher.take(most, retired, runs=self._runs_a_batch(), takers=slots)
                if batch is None:
                    return
                for stream_id, frames in batch.by_stream().items():
                    taken(stream_id, frames)
                try:
                    if batch.frames:
                        self(batch)
                except Exception as error:  # these frames are handed on as failed, like those before
                    _fail_the_rest(batch, error)
                    in_order.put(batch)
                    raise
                in_order.put(batch)
                if self._lost is not None:
                    raise self._lost
        finally:
            in_order.leave()

    def __call__(self, batch: Batch) -> Batch:
        """Fill in ``batch.inferred`` and ``batch.failed``. Raises StageError when nothing works any more."""
        started = monotonic()
        self._work(batch)
        self._busy.add(started, monotonic())
        if batch.inferred:
            self._failures, self._has_worked = 0, True
        elif any(failed.stage == "infer" for failed in batch.failed) or not self._has_worked:
            # Where the model works, pictures that cannot be prepared or read are their camera's trouble alone.
            self._failures += 1
        if batch.failed:
            failed = batch.failed[0]
            message = f"stream {failed.frame.stream_id}: {failed.stage} failed: {failed.error}"
            if self._notices.is_new(message):
                _log.warning("%s", message)
            if self._failures >= _FAILURES_IN_A_ROW and self._notices.first_to_give_up():
                raise StageError(f"{self._failures} batches in a row failed: {failed.error}", stage=failed.stage)
        return batch

    def show_on(self, timeline: Timeline, name: str) -> None:
        """Note on ``timeline`` from now on what is done, on the track of that name. Before ``warm_up``."""
        self._track = timeline.track(name)

    def share(self, notices: Notices) -> None:
        """Say through ``notices`` what is to be said, together with the other slots."""
        self._notices = notices

    def warm_up(self) -> None:  # noqa: B027 - not every step needs it
        """Do before the first batch what would hold it up. Raises RunError."""

    def close(self) -> None:  # noqa: B027 - not every step holds something
        """Give back what the step took for itself. Closing twice is safe."""

    def _enter(self) -> None:  # noqa: B027 - not every step needs it
        """Make the calling thread ready for the work."""

    def _runs_a_batch(self) -> int:
        """Return how many runs of the model a batch may hold."""
        return 1

    def _note(self, name: str, begun: float, ended: float, frames: Iterable[Frame] = (), flow: Flow = "") -> None:
        if self._track is not None:
            self._track.span(name, begun, ended, frames, flow)

    @abstractmethod
    def _work(self, batch: Batch) -> None:
        """Fill in ``batch.inferred`` and ``batch.failed``."""


def _fail_the_rest(batch: Batch, error: Exception) -> None:
    """Have the frames of which ``batch`` knows nothing yet fail."""
    known = {id(one.frame) for one in batch.inferred} | {id(one.frame) for one in batch.failed}
    batch.failed.extend(FailedFrame(frame, "infer", str(error)) for frame in batch.frames if id(frame) not in known)


class InferStep(SlotStep):
    """Prepares, runs and reads batches in one slot, from host memory. Passive and not thread-safe: one per slot.

    A frame that cannot be prepared or read fails alone; a run that fails costs its batch.
    """

    def __init__(
        self,
        slot: Slot,
        preprocess: HostPreprocess,
        postprocess: Postprocess,
        busy: BusyClock,
        runs: BusyClock,
        pace: RunPace,
        limits: Callable[[str], ScoreLimits | None] = lambda stream_id: None,
    ) -> None:
        """``busy`` counts the slots' work; ``runs`` the model's runs alone, of which there may be fewer at a time.

        ``pace``, shared by all slots, says when to take the next frames. ``limits`` says which scores of a stream
        count; None: those of ``postprocess``.
        """
        super().__init__(busy, pace)
        self._slot = slot
        self._preprocess = preprocess
        self._postprocess = postprocess
        self._runs = runs
        self._limits = limits

    def close(self) -> None:
        """Say how often the outputs were no numbers."""
        self._notices.not_numbers.close()

    def _runs_a_batch(self) -> int:
        return _SHORT_RUNS_A_BATCH if self._pace.short else 1

    def _work(self, batch: Batch) -> None:
        frames, rows, taken_at = batch.frames, len(self._slot.input), batch.taken_at
        for first in range(0, len(frames), rows):
            begun = monotonic()
            with profiled_range("preprocess"):
                ready = self._prepare(batch, frames[first : first + rows])
            self._note("preprocess", begun, monotonic())
            if ready:
                self._infer(batch, ready, taken_at)
            taken_at = monotonic()

    def _prepare(self, batch: Batch, frames: Sequence[Frame]) -> list[tuple[Frame, Letterbox, float]]:
        """Fill the slot's input row by row; return the frames in it, their geometry and preprocess seconds."""
        ready: list[tuple[Frame, Letterbox, float]] = []
        for frame in frames:
            begun = monotonic()
            try:
                geometry = self._preprocess(frame, len(ready))
            except Exception as error:
                batch.failed.append(FailedFrame(frame, "preprocess", f"{type(error).__name__}: {error}"))
            else:
                ready.append((frame, geometry, monotonic() - begun))
        return ready

    def _infer(self, batch: Batch, ready: list[tuple[Frame, Letterbox, float]], taken_at: float) -> None:
        begun = monotonic()
        try:
            with self._pace.run(taken_at), profiled_range("infer"):
                outputs = self._slot.run(len(ready))
        except Exception as error:
            self._lost = error if isinstance(error, DeviceLostError) else None
            batch.failed.extend(FailedFrame(frame, "infer", str(error)) for frame, _, _ in ready)
            return
        ended = monotonic()
        self._runs.add(begun, ended)
        infer_seconds = ended - begun
        for row, (frame, geometry, preprocess_seconds) in enumerate(ready):
            self._read(batch, outputs, row, frame, geometry, preprocess_seconds, infer_seconds)
        if not any(failed.stage == "postprocess" for failed in batch.failed):  # they say what is wrong themselves
            self._notices.not_numbers.check(outputs)
        self._note("infer", begun, ended, (frame for frame, _, _ in ready), "t")
        self._note("postprocess", ended, monotonic())

    def _read(
        self,
        batch: Batch,
        outputs: Tensors,
        row: int,
        frame: Frame,
        geometry: Letterbox,
        preprocess_seconds: float,
        infer_seconds: float,
    ) -> None:
        begun = monotonic()
        try:
            detections = self._postprocess(outputs, row, geometry, self._limits(frame.stream_id))
        except Exception as error:
            batch.failed.append(FailedFrame(frame, "postprocess", f"{type(error).__name__}: {error}"))
            return
        seconds = monotonic() - begun
        batch.inferred.append(InferredFrame(frame, detections, preprocess_seconds, infer_seconds, seconds))
