"""Every runtime finds in every precision what the CPU finds in fp32: the bundled detector on frames of its clip."""

from __future__ import annotations

import numpy as np
import pytest

from engines.runtime import PlanOptions, RuntimeOptions, open_runtime
from engines.trt.options import BuildOptions
from pipeline.accuracy.calibration import calibration_from
from pipeline.detections import Detections
from pipeline.postprocess.head import open_head
from pipeline.postprocess.postprocess import Postprocess
from pipeline.preprocess.host import HostPreprocess
from tests.helpers.street import CLIP, MODEL, SPEC, partner_ious, street_frames

FRAMES = 8
LEAST_SCORE = 0.15
"""Partners may score less than the boxes that are looked for: otherwise those near the limit had none."""


@pytest.fixture(scope="module")
def frames():
    return street_frames(FRAMES)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("ONPACE_CACHE", str(tmp_path_factory.getbasetemp() / "runtimes-agree"))


@pytest.fixture(scope="module")
def quick_plans(tmp_path_factory) -> PlanOptions:
    return PlanOptions(store=tmp_path_factory.mktemp("plans"), build=BuildOptions(optimisation_level=0))


def found_by(runtime: str, precision: str, frames, plans: PlanOptions) -> list[Detections]:
    calibration = calibration_from([str(CLIP)], SPEC, 8)
    options = RuntimeOptions(threads=1, max_batch=4, precision=precision, calibration=calibration, plans=plans)
    post = Postprocess(SPEC, open_head(SPEC), score_threshold=LEAST_SCORE, iou_threshold=0.5, max_detections=300)
    with open_runtime(runtime, MODEL, SPEC, options) as opened:
        assert opened.name == runtime
        slot = opened.slots[-1]
        preprocess = HostPreprocess(SPEC, slot.input)
        found = []
        for frame in frames:
            geometry = preprocess(frame, 0)
            found.append(post(slot.run(1), 0, geometry))
        return found


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("runtime", "precision", "score", "least_iou"),
    [
        pytest.param(name, precision, 0.35, 0.75, marks=pytest.mark.runtime(name), id=f"{name}-{precision}")
        for name in ("cuda", "tensorrt")
        for precision in ("fp32", "fp16")
    ]
    + [pytest.param("cpu", "int8", 0.5, 0.6, marks=pytest.mark.runtime("cpu"), id="cpu-int8")],
)
def test_every_box_has_its_partner_in_fp32_on_the_cpu(frames, quick_plans, runtime, precision, score, least_iou):
    expected = found_by("cpu", "fp32", frames, quick_plans)
    found = found_by(runtime, precision, frames, quick_plans)
    for wanted, given in ((expected, found), (found, expected)):
        ious = [partner_ious(*pair, score) for pair in zip(wanted, given, strict=True)]
        assert sum(map(len, ious)) > 2 * FRAMES
        assert np.concatenate(ious).min() >= least_iou, ious
