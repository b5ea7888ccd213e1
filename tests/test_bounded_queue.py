"""A queue holds what it promises: size, order, policy, and every item accounted for."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.bounded_queue import Arrivals, BoundedQueue


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


class Waiter:
    """Waits on a thread for so many items of the queues that share ``lock`` and ``arrivals``."""

    def __init__(self, items, timeout_seconds=30):
        self.lock = threading.Lock()
        self.arrivals = Arrivals(self.lock)
        self.woken = threading.Event()
        waits = threading.Event()

        def wait():
            with self.lock:
                waits.set()
                self.arrivals.wait(items, timeout_seconds)
            self.woken.set()

        threading.Thread(target=wait, daemon=True).start()
        assert waits.wait(10)
        with self.lock:  # it lets go of it only to wait
            pass

    def queue(self, capacity, policy):
        return BoundedQueue(capacity, policy, lock=self.lock, arrivals=self.arrivals)

    def sleeps_on(self):
        return not self.woken.wait(0.05)

    def comes(self):
        return self.woken.wait(10)


def test_whoever_waits_for_some_items_sleeps_until_the_last_of_them():
    waiter = Waiter(items=3)
    first, second = waiter.queue(8, "drop_oldest"), waiter.queue(8, "block")
    first.put(1)
    second.put(2)
    assert waiter.sleeps_on()
    second.put(3)
    assert waiter.comes()


@pytest.mark.parametrize(
    ("policy", "capacity", "enough"),
    [("block", 6, 6), ("block", 1, 1), ("drop_oldest", 6, 2), ("drop_oldest", 2, 2), ("drop_oldest", 1, 1)],
)
def test_a_queue_that_gets_full_does_not_wait_for_the_others(policy, capacity, enough):
    """One that drops says so at its second item: more may come before whoever is woken does."""
    waiter = Waiter(items=100)
    queue = waiter.queue(capacity, policy)
    for number in range(enough - 1):
        queue.put(number)
    assert waiter.sleeps_on()
    assert queue.put("last") == []
    assert waiter.comes()


def test_closing_waking_and_the_end_of_the_time_end_the_wait():
    closed, woken = Waiter(items=2), Waiter(items=2)
    closed.queue(4, "block").close()
    with woken.lock:
        woken.arrivals.wake()
    assert closed.comes()
    assert woken.comes()
    assert Waiter(items=2, timeout_seconds=0.01).comes()


def test_every_one_of_several_takers_gets_what_comes():
    queue = BoundedQueue(100, "block")
    taken = []

    def take():
        while (item := queue.take()) is not None:
            taken.append(item)

    takers = [threading.Thread(target=take) for _ in range(4)]
    for taker in takers:
        taker.start()
    for number in range(2000):
        queue.put(number)
    queue.close()
    for taker in takers:
        taker.join(10)
        assert not taker.is_alive()
    assert sorted(taken) == list(range(2000))
