"""What fails alone, what costs its batch, and what ends the pipeline."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.detections import Detections
from pipeline.errors import StageError
from pipeline.infer.batch import Batch
from pipeline.infer.infer_step import InferStep
from pipeline.infer.run_pace import RunPace
from pipeline.keepup.load import BusyClock
from pipeline.letterbox import Letterbox
from tests.infer.test_sharing import frame_of


class Engine:
    """A slot, its preprocessing and its head, each of which can be told to fail."""

    def __init__(self) -> None:
        self.input = np.zeros((1, 3, 2, 2), np.float32)
        self.broken = ""
        self.runs = 0
        self.bad_stream = ""

    def run(self, batch_size: int, extra: Any = None) -> dict[str, Any]:
        if self.broken:
            raise RuntimeError(self.broken)
        self.runs += 1
        return {}

    def prepare(self, frame: Any, row: int) -> Letterbox:
        if frame.stream_id == self.bad_stream:
            raise ValueError("a picture like no other")
        return Letterbox.fit(frame.size, frame.size)

    def read(self, outputs: Any, row: int, geometry: Letterbox, limits: Any = None) -> Detections:
        return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def step(engine: Engine) -> InferStep:
    pace = RunPace(just_in_time=lambda: False)
    return InferStep(engine, engine.prepare, engine.read, BusyClock(), BusyClock(), pace)  # type: ignore[arg-type]


def batch_of(*stream_ids: str) -> Batch:
    return Batch(0, [frame_of(stream_id, 0) for stream_id in stream_ids], 0.0)


def test_a_picture_that_cannot_be_prepared_fails_alone(step: InferStep, engine: Engine) -> None:
    engine.bad_stream = "bad"
    done = step(batch_of("good", "bad"))
    assert [one.frame.stream_id for one in done.inferred] == ["good"]
    assert [(one.frame.stream_id, one.stage) for one in done.failed] == [("bad", "preprocess")]


def test_a_batch_of_more_frames_than_the_slot_has_rows_takes_several_runs(step: InferStep, engine: Engine) -> None:
    done = step(batch_of("a", "b", "a"))
    assert [one.frame.stream_id for one in done.inferred] == ["a", "b", "a"]
    assert engine.runs == 3
    assert done.by_stream() == {"a": 2, "b": 1}


def test_one_cameras_pictures_never_end_the_pipeline_once_the_model_has_worked(step: InferStep, engine: Engine) -> None:
    step(batch_of("good"))
    engine.bad_stream = "bad"
    for _ in range(50):
        assert step(batch_of("bad")).failed
    assert step(batch_of("good")).inferred


def test_a_model_that_fails_ten_times_in_a_row_ends_the_pipeline(step: InferStep, engine: Engine) -> None:
    step(batch_of("good"))
    engine.broken = "out of memory"
    with pytest.raises(StageError, match=r"10 batches in a row failed: out of memory"):
        for _ in range(10):
            step(batch_of("good"))


def test_the_batch_that_ends_the_pipeline_is_handed_on_like_those_before(step: InferStep, engine: Engine) -> None:
    engine.broken = "out of memory"
    batches = [batch_of("a") for _ in range(10)]
    waiting, handed_on = iter(batches), []
    batcher = SimpleNamespace(take=lambda *_, **__: next(waiting))
    in_order = SimpleNamespace(put=handed_on.append, leave=lambda: None)
    with pytest.raises(StageError):
        step.run(batcher, in_order, lambda *_: None)
    assert handed_on == batches
    assert all(len(batch.failed) == 1 for batch in handed_on)


def test_pictures_that_never_worked_end_the_pipeline(step: InferStep, engine: Engine) -> None:
    engine.bad_stream = "bad"
    with pytest.raises(StageError, match="a picture like no other"):
        for _ in range(10):
            step(batch_of("bad"))
