"""Finished batches wait for their turn, but not without bound."""

import threading
import time

from pipeline.infer.batch import Batch
from pipeline.infer.in_order import InOrder


def in_threads(in_order, *tickets):
    threads = [threading.Thread(target=in_order.put, args=(Batch(ticket, []),), daemon=True) for ticket in tickets]
    for thread in threads:
        thread.start()
    return threads


def test_slow_delivery_holds_the_slots_up_instead_of_filling_the_memory():
    go_on, delivered, handed_in = threading.Event(), [], []

    def deliver(batch):
        go_on.wait(10)
        delivered.append(batch.ticket)

    in_order = InOrder(deliver, producers=2, most_waiting=4)
    delivering = in_threads(in_order, 0)

    def slot():
        for ticket in range(1, 20):
            in_order.put(Batch(ticket, []))
            handed_in.append(ticket)

    other = threading.Thread(target=slot, daemon=True)
    other.start()
    time.sleep(0.2)
    assert len(handed_in) <= 5
    go_on.set()
    for thread in (*delivering, other):
        thread.join(5)
    assert delivered == list(range(20))


def test_the_batch_whose_turn_it_is_never_waits_for_room():
    delivered = []
    in_order = InOrder(lambda batch: delivered.append(batch.ticket), producers=4, most_waiting=1)
    for thread in in_threads(in_order, 3, 2, 1, 0):
        thread.join(5)
    assert delivered == [0, 1, 2, 3]


def test_closing_lets_everyone_go():
    in_order = InOrder(lambda batch: None, producers=2, most_waiting=1)
    in_order.put(Batch(1, []))
    [waiting] = in_threads(in_order, 2)
    in_order.close()
    waiting.join(5)
    assert not waiting.is_alive()
