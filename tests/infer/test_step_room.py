"""A GPU whose memory runs out as a slot's step is warmed up: the message names the batch to try."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import pytest

from engines.device_room import told_with_batch
from engines.errors import DeviceMemoryError
from pipeline.infer.device_step import DeviceInferStep
from pipeline.infer.run_pace import RunPace
from pipeline.keepup.load import BusyClock
from tests.engines.test_device_room import GPU


def test_heads_that_find_no_memory_name_the_batch_to_try() -> None:
    def no_room(outputs: object, count: int) -> None:
        raise DeviceMemoryError("the GPU is out of memory (CUDA_ERROR_OUT_OF_MEMORY, out of memory).")

    slot = SimpleNamespace(gpu=SimpleNamespace(use=lambda: None), enqueue=lambda count: {})
    pictures = SimpleNamespace(shape=(16,))
    pre = SimpleNamespace(pictures=pictures, upload=lambda count: None, enqueue=lambda count: None)
    post = SimpleNamespace(enqueue=no_room)
    room = partial(told_with_batch, "model m", GPU, 16, False)
    pace = RunPace(just_in_time=lambda: False)
    step = DeviceInferStep(slot, pre, post, BusyClock(), BusyClock(), pace, lambda stream_id: None, room)
    with pytest.raises(DeviceMemoryError, match=r"batches up to 16 .*Try infer\.batch_size: 8"):
        step.warm_up()
