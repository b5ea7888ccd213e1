"""A queue holds what it promises: size, order, policy, and every item accounted for."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.bounded_queue import BoundedQueue


@given(capacity=st.integers(1, 8), actions=st.lists(st.booleans(), max_size=200))
def test_drop_oldest_accounts_for_every_item_in_order(capacity, actions):
    queue = BoundedQueue(capacity, "drop_oldest")
    put, taken, evicted = 0, [], []
    for is_put in actions:
        if is_put:
            evicted += queue.put(put)
            put += 1
        elif (item := queue.take(0)) is not None:
            taken.append(item)
        assert len(queue) <= capacity
        assert put == len(taken) + len(evicted) + len(queue)
    assert taken == sorted(taken)
    assert sorted(taken + evicted + [queue.take(0) for _ in range(len(queue))]) == list(range(put))


def test_block_makes_the_producer_wait_and_loses_nothing():
    queue = BoundedQueue(2, "block")
    refused = []

    def produce():
        for number in range(500):
            refused.extend(queue.put(number))
        queue.close()

    producer = threading.Thread(target=produce)
    producer.start()
    taken = []
    while (item := queue.take(10)) is not None:
        taken.append(item)
        assert len(queue) <= 2
    producer.join()
    assert taken == list(range(500))
    assert refused == []


def test_a_waiting_producer_gives_the_item_back_when_the_stream_stops():
    queue = BoundedQueue(1, "block")
    stopping = threading.Event()
    queue.put("first")
    threading.Timer(0.1, stopping.set).start()
    assert queue.put("second", stopping) == ["second"]
    assert queue.take(0) == "first"


def test_a_closed_queue_takes_nothing_and_gives_out_what_it_has():
    queue = BoundedQueue(2, "drop_oldest")
    queue.put(1)
    queue.close()
    queue.close()
    assert queue.put(2) == [2]
    assert queue.take(0) == 1
    assert queue.take(5) is None


def test_a_capacity_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        BoundedQueue(0, "block")
