"""The batcher is fair, keeps order, and honours batch size, deadline and age."""

import threading
import time

import numpy as np
import pytest
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


def test_several_runs_share_a_batch_only_of_what_waits_and_leave_their_share_to_other_slots():
    batcher = batcher_of(batch_size=1)
    queue = batcher.add_stream(capacity=8, policy="block")
    taken = []
    for waiting in (8, 3, 2, 1):
        for index in range(waiting):
            queue.put(frame_of("a", index))
        taken.append(len(batcher.take(runs=4, takers=2).frames))
        queue.items.clear()
    assert taken == [4, 2, 1, 1]


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


def test_slots_that_wait_for_their_batches_to_fill_keep_every_stream_in_order():
    batcher = batcher_of(batch_size=4, deadline=0.02)
    queues = [batcher.add_stream(capacity=8, policy="block") for _ in range(3)]
    batches = []

    def run_slot():
        while (batch := batcher.take()) is not None:
            batches.append(batch)

    def feed(number):
        for index in range(60):
            queues[number].put(frame_of(str(number), index))
            time.sleep(0.002 * (index % 3))
        queues[number].close()

    batcher.close()
    threads = [threading.Thread(target=run_slot) for _ in range(3)]
    threads += [threading.Thread(target=feed, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    batches.sort(key=lambda batch: batch.ticket)
    for number in range(3):
        seen = [frame.index for batch in batches for frame in batch.frames if frame.stream_id == str(number)]
        assert seen == list(range(60))


@given(order=st.permutations(range(12)))
def test_batches_are_delivered_by_ticket_however_they_finish(order):
    out = []
    in_order = InOrder(lambda batch: out.append(batch.ticket), producers=1)
    for ticket in order:
        in_order.put(Batch(ticket, []))
    assert not in_order.wait_until_finished(0)
    in_order.leave()
    assert out == list(range(12))
    assert in_order.wait_until_finished(0)


def test_many_producers_deliver_everything_in_order_and_one_at_a_time():
    out, inside = [], threading.Lock()

    def deliver(batch):
        assert inside.acquire(blocking=False), "delivered twice at a time"
        out.append(batch.ticket)
        inside.release()

    in_order = InOrder(deliver, producers=4)

    def produce(first):
        for ticket in range(first, 800, 4):
            in_order.put(Batch(ticket, []))
        in_order.leave()

    producers = [threading.Thread(target=produce, args=(first,)) for first in range(4)]
    for producer in producers:
        producer.start()
    assert in_order.wait_until_finished(30)
    assert out == list(range(800))


def test_a_failed_delivery_reaches_whoever_put_the_batch_and_later_ones_still_go_out():
    out = []

    def deliver(batch):
        if batch.ticket == 0:
            raise RuntimeError("no")
        out.append(batch.ticket)

    in_order = InOrder(deliver, producers=1)
    with pytest.raises(RuntimeError, match="no"):
        in_order.put(Batch(0, []))
    in_order.put(Batch(1, []))
    assert out == [1]
