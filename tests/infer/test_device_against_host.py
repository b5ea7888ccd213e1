"""A slot whose pictures stay on the GPU finds what it finds where host memory is in between.

So does the letterbox kernel, compiled for the host, before the CPU runtime.
"""

from __future__ import annotations

import numpy as np
import pytest

from engines.runtime import PlanOptions, RuntimeOptions, open_runtime
from engines.trt.options import BuildOptions
from pipeline.config.sections import PostprocessSection
from pipeline.detections import Detections, ScoreLimits
from pipeline.frame import Size
from pipeline.infer.batch import Batch
from pipeline.infer.device_step import DeviceInferStep
from pipeline.infer.infer_step import InferStep
from pipeline.infer.open_step import open_step
from pipeline.infer.run_pace import RunPace
from pipeline.keepup.load import BusyClock
from pipeline.letterbox import Letterbox
from pipeline.postprocess.head import open_head
from pipeline.postprocess.postprocess import Postprocess
from pipeline.preprocess.host import HostPreprocess
from tests.helpers.street import MODEL, SPEC, street_frames
from tests.preprocess.device_pictures import letterboxed
from tests.track.mot_metrics import box_iou

FRAMES = 8
SCORE, LEAST_IOU, SCORES_APART, PIXELS_APART = 0.35, 0.75, 0.01, 1.0
POST = PostprocessSection(score_threshold=0.25)


@pytest.fixture(scope="module")
def frames():
    return street_frames(FRAMES)


def host_postprocess() -> Postprocess:
    return Postprocess(
        SPEC,
        open_head(SPEC),
        score_threshold=POST.score_threshold,
        iou_threshold=POST.iou_threshold,
        max_detections=POST.max_detections,
    )


def found_by(step, frames, at_once) -> list[Detections]:
    found = []
    for first in range(0, len(frames), at_once):
        done = step(Batch(0, frames[first : first + at_once], 0.0))
        assert not done.failed
        found += [one.detections for one in done.inferred]
    return found


def assert_the_same(expected: list[Detections], found: list[Detections]) -> None:
    """Each box that scores enough has one partner, nearly always where it is itself.

    Not always: of two candidates for one object that score the same, suppression may keep either.
    """
    apart = []
    for wanted, given in ((expected, found), (found, expected)):
        for one, other in zip(wanted, given, strict=True):
            ious = box_iou(one.xyxy, other.xyxy) * (one.class_ids[:, None] == other.class_ids[None])
            for row in np.flatnonzero(one.scores >= SCORE):
                partner = ious[row].argmax()
                assert ious[row, partner] >= LEAST_IOU, (one.xyxy[row], one.scores[row], other)
                pixels = np.abs(one.xyxy[row] - other.xyxy[partner]).max()
                apart.append((pixels, abs(one.scores[row] - other.scores[partner])))
                ious[:, partner] = 0  # it is nobody else's
    pixels, scores = np.array(apart).T
    assert len(apart) > 4 * FRAMES
    assert scores.max() <= 3 * SCORES_APART
    assert ((pixels <= PIXELS_APART) & (scores <= SCORES_APART)).mean() >= 0.98


@pytest.mark.cuda
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.runtime(name)) for name in ("cuda", "tensorrt")])
def test_the_device_step_finds_what_the_host_step_finds(tmp_path, frames, name):
    plans = PlanOptions(store=tmp_path / "plans", build=BuildOptions(optimisation_level=0))
    options = RuntimeOptions(max_batch=4, precision="fp32", plans=plans)
    limits = ScoreLimits(POST.score_threshold, POST.score_threshold)
    busy, pace = BusyClock(), RunPace(just_in_time=lambda: False)
    with open_runtime(name, MODEL, SPEC, options) as runtime:
        slot = runtime.slots[0]
        device = open_step(SPEC, slot, POST, busy, busy, pace, lambda stream_id: limits, None)
        assert isinstance(device, DeviceInferStep)
        try:
            device.warm_up()
            found = found_by(device, frames, runtime.max_batch)
        finally:
            device.close()
        host = InferStep(slot, HostPreprocess(SPEC, slot.input), host_postprocess(), busy, busy, pace)
        assert_the_same(found_by(host, frames, runtime.max_batch), found)


def test_the_letterbox_kernel_moves_no_box(frames):
    busy, pace, postprocess = BusyClock(), RunPace(just_in_time=lambda: False), host_postprocess()
    with open_runtime("cpu", MODEL, SPEC, RuntimeOptions(threads=1)) as runtime:
        slot = runtime.slots[0]
        host = InferStep(slot, HostPreprocess(SPEC, slot.input), postprocess, busy, busy, pace)
        expected, found = found_by(host, frames, 1), []
        for frame in frames:
            slot.input[:1] = letterboxed(SPEC, [frame], slot.input.dtype)
            geometry = Letterbox.fit(frame.size, Size(SPEC.input_width, SPEC.input_height), SPEC.pixels.placement)
            found.append(postprocess(slot.run(1), 0, geometry))
    assert_the_same(expected, found)
