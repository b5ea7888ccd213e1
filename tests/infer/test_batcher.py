"""The batcher is fair, keeps order, and honours batch size, deadline and age."""

import threading
import time

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.clock import monotonic
from pipeline.frame import Colour, Frame
from pipeline.infer.batch import Batch
from pipeline.infer.batcher import Batcher
from pipeline.infer.in_order import InOrder

PLANES = (np.zeros((2, 2), np.uint8),) * 3


def frame_of(stream_id, index, received_at=None):
    at = monotonic() if received_at is None else received_at
    return Frame(stream_id, 1, index, PLANES, Colour(), 0, 0.0, at, at, 0.0, "arrival", at)


def batcher_of(batch_size=4, deadline=0.0, max_age=60.0, on_drop=lambda frame, reason: None):
    return Batcher(batch_size=batch_size, deadline_seconds=deadline, max_age_seconds=max_age, on_drop=on_drop)


def drain(batcher):
    batches = []
    while (batch := batcher.take()) is not None:
        batches.append(batch)
    return batches


@settings(deadline=None)
@given(counts=st.lists(st.integers(0, 12), min_size=1, max_size=6), batch_size=st.integers(1, 8))
def test_every_frame_comes_out_once_and_each_stream_in_order(counts, batch_size):
    batcher = batcher_of(batch_size)
    for number, count in enumerate(counts):
        queue = batcher.add_stream(capacity=12, policy="block")
        for index in range(count):
            queue.put(frame_of(str(number), index))
        queue.close()
    batcher.close()
    batches = drain(batcher)
    assert all(1 <= len(batch.frames) <= batch_size for batch in batches)
    assert [batch.ticket for batch in batches] == list(range(len(batches)))
    for number, count in enumerate(counts):
        seen = [f.index for batch in batches for f in batch.frames if f.stream_id == str(number)]
        assert seen == list(range(count))


@settings(deadline=None)
@given(streams=st.integers(2, 8), batch_size=st.integers(1, 8))
def test_a_stream_that_floods_gets_no_more_than_its_turn(streams, batch_size):
    batcher = batcher_of(batch_size)
    queues = [batcher.add_stream(capacity=200, policy="block") for number in range(streams)]
    for index in range(200):
        queues[0].put(frame_of("0", index))
    for number in range(1, streams):
        for index in range(10):
            queues[number].put(frame_of(str(number), index))
    for queue in queues:
        queue.close()
    batcher.close()
    order = [frame.stream_id for batch in drain(batcher) for frame in batch.frames]
    first_rounds = order[: 10 * streams]
    assert all(first_rounds.count(str(number)) == 10 for number in range(streams))


def test_a_partial_batch_goes_when_its_deadline_is_over():
    batcher = batcher_of(batch_size=8, deadline=0.05)
    queue = batcher.add_stream(capacity=8, policy="drop_oldest")
    queue.put(frame_of("a", 0))
    started = time.monotonic()
    batch = batcher.take()
    waited = time.monotonic() - started
    assert len(batch.frames) == 1
    assert 0.04 <= waited < 5


def test_a_full_batch_does_not_wait_for_the_deadline():
    batcher = batcher_of(batch_size=2, deadline=30)
    queue = batcher.add_stream(capacity=8, policy="drop_oldest")
    threading.Timer(0.05, lambda: queue.put(frame_of("a", 1))).start()
    queue.put(frame_of("a", 0))
    started = time.monotonic()
    assert [frame.index for frame in batcher.take().frames] == [0, 1]
    assert time.monotonic() - started < 10


def test_live_frames_that_are_too_old_are_handed_back_instead_of_inferred():
    expired = []
    batcher = batcher_of(max_age=1.0, on_drop=lambda frame, reason: expired.append((frame, reason)))
    live = batcher.add_stream(capacity=8, policy="drop_oldest")
    file = batcher.add_stream(capacity=8, policy="block")
    live.put(frame_of("live", 0, monotonic() - 5))
    live.put(frame_of("live", 1))
    file.put(frame_of("file", 0, monotonic() - 5))
    taken = {(frame.stream_id, frame.index) for frame in batcher.take().frames}
    assert taken == {("live", 1), ("file", 0)}
    assert [(frame.stream_id, frame.index, reason) for frame, reason in expired] == [("live", 0, "stale")]


def test_a_burst_of_a_live_stream_loses_nothing():
    stale = []
    batcher = batcher_of(batch_size=1, on_drop=lambda frame, reason: stale.append(frame))
    queue = batcher.add_stream(capacity=8, policy="drop_oldest")
    for index in range(8):
        queue.put(frame_of("a", index))
    assert [batcher.take().frames[0].index for _ in range(8)] == list(range(8))
    assert stale == []


def test_under_overload_the_freshest_frame_is_taken_and_the_late_ones_are_handed_back():
    stale = []
    batcher = batcher_of(batch_size=1, on_drop=lambda frame, reason: stale.append(frame))
    queue = batcher.add_stream(capacity=8, policy="drop_oldest")
    waits, taken, evicted, index = [], [], [], 0
    until = monotonic() + 1.5
    while monotonic() < until:  # three frames arrive while one is run
        for _ in range(3):
            evicted += queue.put(frame_of("a", index))
            index += 1
            time.sleep(0.01)
        frame = batcher.take().frames[0]
        taken.append(frame.index)
        waits.append(monotonic() - frame.received_at)
    assert taken == sorted(taken)
    assert stale
    settled = waits[len(waits) // 2 :]
    assert sorted(settled)[len(settled) // 2] < 0.03
    assert len(taken) + len(stale) + len(evicted) + len(queue) == index


def test_taking_ends_once_every_stream_has_ended_and_no_more_will_join():
    batcher = batcher_of()
    queue = batcher.add_stream(capacity=2, policy="block")
    ended = []
    slots = [threading.Thread(target=lambda: ended.append(batcher.take())) for _ in range(3)]
    for slot in slots:
        slot.start()
    batcher.close()
    queue.close()
    for slot in slots:
        slot.join(10)
    assert ended == [None] * 3


@given(order=st.permutations(range(12)))
def test_batches_come_out_by_ticket_however_they_finish(order):
    in_order = InOrder()
    out = []
    for ticket in order:
        in_order.put(Batch(ticket, []))
        while (batch := in_order.take(0)) is not None:
            out.append(batch.ticket)
    in_order.close()
    assert out == list(range(12))
    assert in_order.finished
