"""While a batch fills, its slot sleeps until that is worth waking for, and no frame is the poorer for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from pipeline.clock import monotonic
from pipeline.frame import Frame
from pipeline.infer.batch import Batch
from pipeline.infer.batcher import Batcher
from pipeline.infer.outlook import Outlook
from tests.infer.test_batcher import frame_of

LONG = 30.0


class Slot:
    """Takes batches on a thread of its own, until there are none."""

    def __init__(self, batcher: Batcher) -> None:
        self.batches: list[Batch] = []
        self._batcher = batcher
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def frames(self) -> list[Frame]:
        return [frame for batch in self.batches for frame in batch.frames]

    def join(self) -> None:
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        while (batch := self._batcher.take()) is not None:
            self.batches.append(batch)


def batcher_of(batch_size: int, dropped: list[str] | None = None) -> Batcher:
    def on_drop(frame: Frame, reason: str) -> None:
        assert dropped is not None, reason
        dropped.append(reason)

    return Batcher(batch_size=batch_size, deadline_seconds=LONG, max_age_seconds=LONG, on_drop=on_drop)


def until(condition: Callable[[], bool]) -> None:
    deadline = monotonic() + 10
    while not condition():
        assert monotonic() < deadline
        time.sleep(0.001)


def test_frames_stay_in_their_queues_until_they_fill_the_batch() -> None:
    batcher = batcher_of(4)
    queues = [batcher.add_stream(8, "drop_oldest") for _ in range(4)]
    slot = Slot(batcher)
    queues[0].put(frame_of("0", 0))
    until(lambda: not len(queues[0]))  # it has begun to fill
    for number in (1, 2):
        queues[number].put(frame_of(str(number), 0))
    time.sleep(0.1)
    assert [len(queue) for queue in queues] == [0, 1, 1, 0], "nobody was woken for them"
    queues[3].put(frame_of("3", 0))
    until(lambda: bool(slot.batches))
    assert [frame.stream_id for frame in slot.frames] == ["0", "1", "2", "3"]
    for queue in queues:
        queue.close()
    batcher.close()
    slot.join()


@pytest.mark.parametrize(("policy", "enough"), [("drop_oldest", 2), ("block", 8)])
def test_a_queue_with_little_room_is_emptied_at_once_and_a_closed_one_ends_the_batch(policy, enough) -> None:  # type: ignore[no-untyped-def]
    batcher = batcher_of(32)
    queue = batcher.add_stream(8, policy)
    slot = Slot(batcher)
    queue.put(frame_of("a", 0))
    until(lambda: not len(queue))
    for index in range(1, enough):
        queue.put(frame_of("a", index))
    time.sleep(0.05)
    assert len(queue) == enough - 1
    queue.put(frame_of("a", enough))
    until(lambda: not len(queue))
    assert not slot.batches, "it goes on filling"
    queue.put(frame_of("a", enough + 1))
    queue.close()
    batcher.close()
    slot.join()
    assert [len(batch.frames) for batch in slot.batches] == [enough + 2]


def test_bursts_of_a_camera_lose_nothing_while_a_larger_batch_fills() -> None:
    batcher = batcher_of(16)
    queue = batcher.add_stream(8, "drop_oldest")
    slot = Slot(batcher)
    evicted, index = [], 0
    for burst in (1, 3, 5, 2, 5, 5, 1, 1, 1, 5, 4, 5, 5, 5):
        for _ in range(burst):
            evicted += queue.put(frame_of("a", index))
            index += 1
        until(lambda: len(queue) < 4)
    queue.close()
    batcher.close()
    slot.join()
    assert evicted == []
    assert [frame.index for frame in slot.frames] == list(range(index))


def test_frames_that_a_filling_batch_waited_for_are_not_overtaken_by_each_other() -> None:
    """An overload that is just over: frames were given up a moment ago."""
    dropped: list[str] = []
    batcher = batcher_of(4, dropped)
    outlook = Outlook()
    outlook.shedding_until = monotonic() + LONG
    queue = batcher.add_stream(8, "drop_oldest", None, outlook)
    slot = Slot(batcher)
    for index in range(4):
        queue.put(frame_of("a", index))
        if index == 0:
            until(lambda: not len(queue))
    until(lambda: bool(slot.batches))
    assert ([frame.index for frame in slot.frames], dropped) == ([0, 1, 2, 3], [])
    queue.close()
    batcher.close()
    slot.join()
