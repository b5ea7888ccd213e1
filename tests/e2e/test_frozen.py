"""A camera that sends the same picture again and again is called frozen while its packets arrive."""

from __future__ import annotations

import json
import signal
import time

import pytest

from tests.helpers.numbered_clip import NumberedClip
from tests.helpers.onpace_process import OnpaceProcess

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def test_a_frozen_camera_is_told_from_one_that_lives(tmp_path, models, cameras, clip):
    still = NumberedClip.make(tmp_path, fps=10, frames=1, gop=1)
    urls = {
        "still": cameras.add_camera("still", still, fps=10).url,
        "alive": cameras.add_camera("alive", clip, fps=10).url,
    }
    config, out = tmp_path / "c.yaml", tmp_path / "out.jsonl"
    streams = "".join(f"  - {{id: {name}, url: '{url}'}}\n" for name, url in urls.items())
    config.write_text(
        f"streams:\n{streams}infer: {{model: {models / 'nothing.onnx'}, runtime: cpu}}\n"
        f"publish: {{sinks: ['jsonl:{out}'], status_interval: 200ms}}\n"
    )

    def statuses(name: str) -> list[dict[str, object]]:
        lines = out.read_text().rpartition("\n")[0].splitlines() if out.exists() else []
        messages = [json.loads(line) for line in lines]
        return [message for message in messages if message["kind"] == "status" and message["stream_id"] == name]

    with OnpaceProcess("run", config) as process:
        until = time.monotonic() + 40
        while not any(status["verdict"] == "frozen" for status in statuses("still")):
            assert time.monotonic() < until, process.stderr
            time.sleep(0.3)
        process.signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert "do not change" in next(str(s["cause"]) for s in statuses("still") if s["verdict"] == "frozen")
    assert not {"frozen", "black"} & {str(status["verdict"]) for status in statuses("alive")}
