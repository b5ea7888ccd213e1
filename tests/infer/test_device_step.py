"""A slot's whole way as one graph finds what it finds piece by piece, for every batch size; a lost GPU ends it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engines.device import _error
from engines.errors import DeviceLostError, DeviceMemoryError, RunError
from engines.inspect_model import read_model_spec
from engines.runtime import PlanOptions, RuntimeOptions, open_runtime
from engines.trt.options import BuildOptions
from pipeline.config.sections import PostprocessSection
from pipeline.detections import ScoreLimits
from pipeline.frame import Colour, Frame
from pipeline.infer.batch import Batch
from pipeline.infer.device_step import DeviceInferStep
from pipeline.infer.infer_step import InferStep
from pipeline.infer.open_step import open_step
from pipeline.infer.run_pace import RunPace
from pipeline.keepup.load import BusyClock
from tests.helpers.tiny_onnx import colour_detector

MOST = 5


def frame_with_a_red_box(index: int) -> Frame:
    """A grey picture of 640x360 with a red box; its place depends on ``index``."""
    luma = np.full((360, 640), 60 + index, np.uint8)
    blue, red = np.full((180, 320), 128, np.uint8), np.full((180, 320), 128, np.uint8)
    left, top = 40 + 48 * index, 20 + 20 * index
    luma[top : top + 80, left : left + 120] = 81
    blue[top // 2 : top // 2 + 40, left // 2 : left // 2 + 60] = 90
    red[top // 2 : top // 2 + 40, left // 2 : left // 2 + 60] = 240
    return Frame("yard", 1, index, (luma, blue, red), Colour(), 0, 0.0, 0.0, 0.0, 0.0, "file", 0.0)


def steps_of(model, name, plans):
    spec = read_model_spec(model)
    runtime = open_runtime(name, model, spec, RuntimeOptions(max_batch=MOST, plans=plans))
    limits = ScoreLimits(0.25, 0.25)
    busy, pace = BusyClock(), RunPace(just_in_time=lambda: False)
    steps = [
        open_step(spec, slot, PostprocessSection(), busy, busy, pace, lambda stream_id: limits, None)
        for slot in runtime.slots
    ]
    for step in steps:
        step.warm_up()
    return runtime, steps


def found_by(step, count, first):
    done = step(Batch(0, [frame_with_a_red_box(first + row) for row in range(count)], 0.0))
    assert not done.failed
    return [(one.detections.xyxy.tolist(), one.detections.class_ids.tolist()) for one in done.inferred]


@pytest.mark.cuda
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.runtime(name)) for name in ("cuda", "tensorrt")])
def test_batches_launched_as_one_graph_find_what_they_find_piece_by_piece(tmp_path, name):
    model = colour_detector(tmp_path / "m.onnx", (320, 256))
    plans = PlanOptions(store=tmp_path / "plans", build=BuildOptions(optimisation_level=0))
    found = {}
    for graphs in (True, False):
        runtime, steps = steps_of(model, name, replace(plans, cuda_graphs=graphs))
        try:
            assert all(isinstance(step, DeviceInferStep) for step in steps)
            assert [step.recorded for step in steps] == [MOST * graphs] * len(steps)
            found[graphs] = [
                found_by(step, count, first) for step in steps for count in (MOST, 1, 3, 2, 4) for first in (0, 2)
            ]
        finally:
            for step in steps:
                step.close()
            runtime.close()
    assert found[True] == found[False]
    assert all(len(boxes) == 1 for batch in found[True] for boxes, _ in batch)
    places = [boxes[0][0] for boxes, _ in found[True][0]]
    assert places == sorted(places) and len(set(places)) == MOST


def test_errors_that_only_a_new_process_gets_over_are_told_from_others():
    lost = _error("CUDA_ERROR_ILLEGAL_ADDRESS, an illegal memory access was encountered")
    assert isinstance(lost, DeviceLostError)
    assert "CUDA_ERROR_ILLEGAL_ADDRESS" in str(lost)
    assert isinstance(_error("CUDA_ERROR_ECC_UNCORRECTABLE, uncorrectable ECC error"), DeviceLostError)
    assert isinstance(_error("CUDA_ERROR_OUT_OF_MEMORY, out of memory"), DeviceMemoryError)
    assert type(_error("CUDA_ERROR_INVALID_VALUE, invalid argument")) is RunError


class LostSlot:
    """A slot whose GPU is lost."""

    def __init__(self) -> None:
        self.input = np.zeros((1, 3, 2, 2), np.float32)

    def run(self, batch_size, extra=None):
        raise DeviceLostError("the GPU is lost to this process (CUDA_ERROR_ECC_UNCORRECTABLE).")


def test_a_lost_gpu_ends_the_slot_after_its_frames_were_handed_on():
    class Batches:
        def take(self, most, retired, *, runs, takers):
            return Batch(0, [frame_with_a_red_box(0)], 0.0)

    handed_on = []

    class InOrder:
        def put(self, batch):
            handed_on.append(batch)

        def leave(self):
            handed_on.append("left")

    pace = RunPace(just_in_time=lambda: False)
    step = InferStep(LostSlot(), lambda frame, row: None, None, BusyClock(), BusyClock(), pace)
    with pytest.raises(DeviceLostError, match="ECC"):
        step.run(Batches(), InOrder(), lambda stream_id, frames: None)
    assert [one.stage for one in handed_on[0].failed] == ["infer"]
    assert handed_on[1:] == ["left"]
