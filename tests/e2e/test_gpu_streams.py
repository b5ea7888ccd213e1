"""On a GPU, a stream that NVDEC cannot take is decoded in software and hurts none of the others."""

from __future__ import annotations

import json

import pytest

from tests.helpers.onpace_process import OnpaceProcess, balanced
from tests.helpers.test_data import test_data
from tests.helpers.tiny_onnx import colour_detector

pytestmark = [pytest.mark.e2e, pytest.mark.cuda, pytest.mark.timeout(180)]

VIDEOS = {"plain": "restaurant_720p.mp4", "resizing": "resolution_change.h264", "refused": "person_mjpeg.avi"}


@pytest.mark.parametrize(
    "runtime", [pytest.param(name, marks=pytest.mark.runtime(name)) for name in ("cuda", "tensorrt")]
)
def test_what_nvdec_refuses_is_published_beside_what_it_takes(tmp_path, runtime):

    streams = ", ".join(f"{{id: {name}, url: '{test_data() / 'videos' / file}'}}" for name, file in VIDEOS.items())
    config, summary = tmp_path / "onpace.yaml", tmp_path / "summary.json"
    config.write_text(
        f"streams: [{streams}]\n"
        f"infer: {{model: {colour_detector(tmp_path / 'm.onnx', (320, 256))}, runtime: {runtime}}}\n"
        f"engine: {{build: wait, optimisation_level: 0, store: {tmp_path / 'plans'}}}\n"
        f"publish: {{sinks: ['jsonl:{tmp_path / 'out.jsonl'}']}}\n"
    )
    with OnpaceProcess("run", config, "--summary", summary) as process:
        assert process.wait(150) == 0, process.stderr
        told = [line for line in process.stderr.splitlines() if "decoding in software" in line]
    assert len(told) == 1 and "onpace.source.refused" in told[0] and "mjpeg" in told[0]
    done = {stream["id"]: stream for stream in json.loads(summary.read_text())["streams"]}
    assert all(balanced(stream) and stream["published"] == stream["received"] > 50 for stream in done.values()), done
