"""A timeline's marks on the GPU that fail cost neither a result nor a batch; whatever happens, a batch is handed on."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from engines.errors import DeviceLostError, RunError
from pipeline.detections import Detections
from pipeline.infer.batch import Batch
from pipeline.infer.device_step import DeviceInferStep
from pipeline.infer.infer_step import SlotStep
from pipeline.infer.run_pace import RunPace
from pipeline.keepup.load import BusyClock
from tests.infer.test_sharing import frame_of


class Marks:
    """Marks that cannot be recorded, or of which CUDA cannot tell the times."""

    def __init__(self, *, recording: Exception | None = None, times: Exception | None = None) -> None:
        self._recording = recording
        self._times = times
        self.asked = 0

    def record(self, index: int) -> None:
        if self._recording is not None:
            raise self._recording

    def times(self) -> list[float]:
        self.asked += 1
        if self._times is not None:
            raise self._times
        return [0.0] * 6


def device_step(marks: Marks) -> DeviceInferStep:
    """A step whose GPU does nothing."""
    nothing = {"upload": lambda count: None, "enqueue": lambda *given: None, "download": lambda count: None}
    slot = SimpleNamespace(
        gpu=SimpleNamespace(use=lambda: None),
        cuda_stream=SimpleNamespace(lost=lambda: None),
        synchronise=lambda: None,
        enqueue=lambda count: {},
    )
    pre = SimpleNamespace(add=lambda *given: None, **nothing)
    post = SimpleNamespace(scores=lambda limits: (0, 0), read=lambda count: [Detections.empty()] * count, **nothing)
    pace = RunPace(just_in_time=lambda: False)
    step = DeviceInferStep(slot, pre, post, BusyClock(), BusyClock(), pace, lambda stream_id: None)
    step._marks, step._gpu_track = marks, SimpleNamespace(span=lambda *given: None)
    return step


def handed_on_by(step: SlotStep, batches: int) -> tuple[list[Batch], Exception | None]:
    """Return what ``step`` hands on of so many batches of a frame each, and what ended it."""
    waiting = iter([*(Batch(number, [frame_of("a", number)], 0.0) for number in range(batches)), None])
    handed_on: list[Batch] = []
    batcher = SimpleNamespace(take=lambda *_, **__: next(waiting))
    in_order = SimpleNamespace(put=handed_on.append, leave=lambda: None)
    try:
        step.run(batcher, in_order, lambda *_: None)
    except Exception as error:
        return handed_on, error
    return handed_on, None


def test_times_that_cuda_cannot_tell_end_the_gpus_timeline_alone(caplog: pytest.LogCaptureFixture) -> None:
    marks = Marks(times=RunError("CUDA failed: CUDA_ERROR_NOT_READY"))
    handed_on, ended_by = handed_on_by(device_step(marks), 3)
    assert ended_by is None
    assert [(len(batch.inferred), len(batch.failed)) for batch in handed_on] == [(1, 0)] * 3
    assert caplog.text.count("CUDA_ERROR_NOT_READY") == marks.asked == 1


def test_a_mark_that_cannot_be_recorded_fails_its_batch_alone() -> None:
    handed_on, ended_by = handed_on_by(device_step(Marks(recording=RunError("CUDA failed: INVALID_HANDLE"))), 3)
    assert ended_by is None
    assert [[(one.stage, one.error) for one in batch.failed] for batch in handed_on] == [
        [("infer", "CUDA failed: INVALID_HANDLE")]
    ] * 3


def test_a_gpu_that_is_lost_between_two_batches_costs_no_frame_its_account() -> None:
    step = device_step(Marks(recording=DeviceLostError("the GPU is lost")))
    step._slot.cuda_stream.lost = lambda: DeviceLostError("the GPU is lost")
    handed_on, ended_by = handed_on_by(step, 3)
    assert isinstance(ended_by, DeviceLostError)
    assert [[one.error for one in batch.failed] for batch in handed_on] == [["the GPU is lost"]]


def test_an_error_that_nobody_expects_hands_its_batch_on_as_failed() -> None:
    class Surprised(SlotStep):
        def _work(self, batch: Batch) -> None:
            raise KeyError("a head of no kind")

    step = Surprised(BusyClock(), RunPace(just_in_time=lambda: False))
    handed_on, ended_by = handed_on_by(step, 1)
    assert isinstance(ended_by, KeyError)
    assert [[one.stage for one in batch.failed] for batch in handed_on] == [["infer"]]
