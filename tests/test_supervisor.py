"""A stream's end, as the stages behind it see it."""

from __future__ import annotations

import sys
import threading

import pytest

from pipeline.config.load import config_from_mapping
from pipeline.infer.batcher import Batcher
from pipeline.keepup.load import BusyClock
from pipeline.keepup.meter import StreamMeter
from pipeline.keepup.settings import KeepupSettings
from pipeline.plan import plan_stream
from pipeline.supervisor import StreamSupervisor


@pytest.fixture
def hasty_threads():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("hasty_threads")
def test_when_nothing_more_can_come_the_stream_has_ended() -> None:
    config = config_from_mapping(
        {"streams": [{"id": "s", "url": "pattern:?size=64x64&frames=1"}], "infer": {"model": "sample:street.onnx"}}
    )
    states = [state_at_the_end(config) for _ in range(200)]
    assert set(states) == {"ended"}


def state_at_the_end(config) -> str:
    plan = plan_stream(config.streams[0], config)
    batcher = Batcher(batch_size=1, deadline_seconds=0, max_age_seconds=1, on_drop=lambda frame, reason: None)
    queue = batcher.add_stream(capacity=2, policy="block")
    batcher.close()
    meter = StreamMeter("s", KeepupSettings(), live=False)
    seen: list[str] = []

    def slot() -> None:
        while batcher.take() is not None:
            pass
        seen.append(meter.snapshot(0.0).state)

    consumer = threading.Thread(target=slot)
    consumer.start()
    stream = StreamSupervisor(plan, queue, meter, BusyClock(), on_failure=lambda error: None)
    stream.start()
    assert stream.join(10)
    consumer.join(10)
    return seen[0]
