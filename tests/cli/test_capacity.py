"""``onpace capacity`` ramps real pipelines until pace is lost."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.capacity import Step, largest, ramp
from pipeline.publish.messages import AgePercentiles
from tests.helpers.onpace_process import onpace
from tests.helpers.tiny_onnx import do_nothing_detector, working_detector


def config_of(folder: Path, model: Path, fps: int) -> Path:
    path = folder / "c.yaml"
    path.write_text(
        f"streams: [{{id: a, url: 'pattern:?size=160x96&fps={fps}'}}]\ninfer: {{model: {model}, runtime: cpu}}\n"
    )
    return path


def test_what_fits_easily_keeps_up_as_far_as_was_asked(tmp_path: Path) -> None:
    config = config_of(tmp_path, do_nothing_detector(tmp_path / "m.onnx", size=(160, 96)), fps=10)
    for _ in range(3):  # a machine that has no time at all for a second says so, and is asked again
        process = onpace("capacity", config, "--measure", "1s", "--most", "2", "--json", timeout_seconds=90)
        assert process.wait() == 0, process.stderr
        report = json.loads(process.stdout)
        if report["streams"] == 2:
            break
    assert report["streams"] == 2
    assert report["first_limit"] is None
    assert [step["streams"] for step in report["steps"]] == [1, 2]
    assert all(step["keeps_up"] for step in report["steps"])


def test_the_stage_that_gives_out_is_named_and_drawn(tmp_path: Path) -> None:
    config = config_of(tmp_path, working_detector(tmp_path / "m.onnx", layers=40), fps=100)
    chart = tmp_path / "capacity.png"
    process = onpace("capacity", config, "--measure", "2s", "--deadline", "500ms", "--chart", chart, timeout_seconds=90)
    assert process.wait() == 0, process.stderr
    assert "0 streams keep up." in process.stdout
    assert "no: infer" in process.stdout
    assert "infer gives out first." in process.stdout
    picture = cv2.imread(str(chart))
    assert picture is not None and picture.shape[1] > 1500
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20, "nothing was drawn"


def test_a_chart_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    process = onpace("capacity", "configs/minimal.yaml", "--chart", tmp_path / "missing" / "c.png")
    assert process.wait() == 2
    assert "does not exist" in process.stderr


def test_a_wrong_duration_says_what_is_allowed(tmp_path: Path) -> None:
    process = onpace("capacity", "configs/minimal.yaml", "--deadline", "200")
    assert process.wait() == 2
    assert "--deadline 200" in process.stderr


@pytest.mark.parametrize("true_capacity", [0, 1, 2, 5, 8, 40])
@pytest.mark.parametrize("error", [0.7, 1.0, 1.4])
def test_the_ramp_finds_the_largest_number_whatever_the_estimate(true_capacity: int, error: float) -> None:
    tried: list[int] = []

    def run(streams: int) -> Step:
        tried.append(streams)
        nothing = AgePercentiles(p50=None, p95=None, p99=None, max=None)
        room = error * (true_capacity + 0.5) - streams
        return Step(streams, streams <= true_capacity, "", 0.0, 0.0, nothing, {}, "infer", room)

    assert largest(ramp(2, 64, run)) == true_capacity
    assert len(tried) <= 9
