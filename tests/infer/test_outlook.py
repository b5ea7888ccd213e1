"""When a slot waits for a fresher frame instead of taking the one that is there."""

from __future__ import annotations

import threading

import pytest

from pipeline.clock import monotonic
from pipeline.infer.batcher import Batcher
from pipeline.infer.outlook import SHEDDING_SECONDS, Outlook
from tests.infer.test_batcher import frame_of

PERIOD = 0.04


def outlook_of(frames: int = 50, *, shedding: bool = True) -> tuple[Outlook, float]:
    """An outlook of a camera of 25 fps, and when its last frame came."""
    outlook, at = Outlook(), 0.0
    for number in range(frames):
        at = number * PERIOD
        outlook.arrived(at)
    if shedding:
        outlook.left_out(at)
    return outlook, at


def test_only_a_frame_that_comes_at_once_is_worth_waiting_for() -> None:
    outlook, at = outlook_of()
    assert outlook.fresher_within(at, at + 0.001) == 0.0
    assert outlook.fresher_within(at, at + PERIOD - 0.01) == 0.0
    assert 0.002 < outlook.fresher_within(at, at + PERIOD - 0.002) < 0.01
    assert outlook.fresher_within(at, at + PERIOD + 0.001) == 0.0, "it is late: nobody knows when it comes"


def test_a_frame_that_is_being_decoded_is_waited_for() -> None:
    outlook, at = outlook_of()
    assert 0.0 < outlook.fresher_within(at - PERIOD, at + 0.001) < PERIOD / 4


def test_nothing_is_waited_for_while_no_frame_has_to_go() -> None:
    outlook, at = outlook_of(shedding=False)
    assert outlook.fresher_within(at, at + PERIOD - 0.002) == 0.0
    outlook, at = outlook_of()
    outlook.shedding_until = at - SHEDDING_SECONDS
    assert outlook.fresher_within(at - PERIOD, at + 0.001) == 0.0


@pytest.mark.parametrize("comes", [True, False])
def test_a_slot_takes_the_frame_that_is_on_its_way_and_the_old_one_if_it_never_comes(comes: bool) -> None:
    dropped = []
    batcher = Batcher(
        batch_size=1, deadline_seconds=0.0, max_age_seconds=60.0, on_drop=lambda frame, reason: dropped.append(reason)
    )
    outlook = Outlook()
    queue = batcher.add_stream(8, "drop_oldest", None, outlook)
    now = monotonic()
    for number in range(20, 0, -1):  # one frame in 8 s: 1.2 s are worth waiting
        outlook.arrived(now - 8.0 * number)
    outlook.arrived(now)
    outlook.shedding_until = now + 60.0
    queue.put(frame_of("a", 0, now - 8.0))
    if comes:
        threading.Timer(0.2, lambda: queue.put(frame_of("a", 1, now))).start()
    batch = batcher.take()
    assert batch is not None
    assert [frame.index for frame in batch.frames] == ([1] if comes else [0])
    assert dropped == (["stale"] if comes else [])
