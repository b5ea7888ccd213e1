"""What whoever runs a pipeline can rely on."""

from __future__ import annotations

import logging
import time

from pipeline.config.load import config_from_mapping
from pipeline.errors import StageError
from pipeline.pipeline import Pipeline
from tests.helpers.tiny_onnx import do_nothing_detector


class SlowLog(logging.Handler):
    """Takes its time, as a log does that reads the sources of a traceback for the first time."""

    def emit(self, record: logging.LogRecord) -> None:
        time.sleep(0.5)


def test_once_everything_has_ended_it_is_known_whether_a_stage_failed(tmp_path):
    model = do_nothing_detector(tmp_path / "m.onnx", (160, 96))
    config = {
        "streams": [{"id": "a", "url": "pattern:?size=160x96&frames=300"}],
        "infer": {"model": str(model), "runtime": "cpu", "batch_size": 1},
    }
    handler, log = SlowLog(logging.ERROR), logging.getLogger("onpace.stage")
    log.addHandler(handler)
    try:
        with Pipeline(config_from_mapping(config, origin="test")) as pipeline:
            pipeline.runtime.close()  # no batch succeeds on it
            pipeline.start()
            assert pipeline.wait(30.0)
            assert isinstance(pipeline.failure, StageError)
    finally:
        log.removeHandler(handler)
