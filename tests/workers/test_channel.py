"""What a worker writes: a batch's messages together, notes never before what they count, and nothing lost uncounted."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator

import pytest

from pipeline.publish.sink import Encoded
from pipeline.workers import notes
from pipeline.workers.channel import MOST_PENDING_BYTES, Channel
from pipeline.workers.relay_sink import RelaySink
from pipeline.workers.wire import DETECTIONS, RECEIVE_BYTES, Frames, read_detections
from tests.publish.examples import make_publisher, make_result, make_status

Heard = Encoded | notes.Note


class Parent:
    """The other end: reads what is on the wire."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._frames = Frames()
        line.setblocking(False)

    def hear(self) -> list[Heard]:
        """Return what can be read at once."""
        heard: list[Heard] = []
        while True:
            try:
                data = self._line.recv(RECEIVE_BYTES)
            except BlockingIOError:
                return heard
            for kind, body in self._frames.feed(data):
                heard.append(read_detections(body) if kind == DETECTIONS else notes.decode(body))

    def hear_all(self, channel: Channel) -> list[Heard]:
        """Return everything the worker still has to write, too."""
        heard: list[Heard] = []
        while not channel.flush():
            heard += self.hear()
        return heard + self.hear()


@pytest.fixture
def line() -> Iterator[tuple[Channel, Parent]]:
    ours, theirs = socket.socketpair()
    with ours:
        yield Channel(theirs.detach()), Parent(ours)


def message(sequence: int, nbytes: int = 100) -> Encoded:
    return Encoded("lobby", 1, sequence, sequence + 10, b"m" * nbytes, b"{}")


def test_messages_leave_with_the_flush_together_and_in_order(line: tuple[Channel, Parent]) -> None:
    channel, parent = line
    sent = [message(number) for number in range(100)]
    for one in sent:
        channel.detections(one)
    assert parent.hear() == []
    assert channel.flush()
    assert parent.hear() == sent
    assert channel.flush()
    assert parent.hear() == []


def test_a_note_follows_what_was_gathered_before_it(line: tuple[Channel, Parent]) -> None:
    channel, parent = line
    before, after, reply = message(1), message(2), notes.Reply(7)
    said = notes.LogLine(logging.INFO, "onpace", "so far")
    channel.detections(before)
    channel.note(said, droppable=True)
    channel.detections(after)
    channel.note(reply)
    assert parent.hear() == [before, said, after, reply]


def test_a_published_batch_reaches_the_parent_with_its_flush_or_the_next_tick(line: tuple[Channel, Parent]) -> None:
    channel, parent = line
    publisher = make_publisher(RelaySink(channel, frozenset({"json"})))
    for hand_on in (publisher.flush, publisher.tick, publisher.close):
        first = publisher.sequence("gate") + 1
        for index in range(3):
            publisher.publish(make_result("gate", index=index), wait_seconds=0.0)
        publisher.publish_status(make_status("gate"))  # the parent's to say
        assert parent.hear() == []
        hand_on()
        heard = parent.hear()
        assert [one.sequence for one in heard if isinstance(one, Encoded)] == list(range(first, first + 3))
        assert len(heard) == 3


def test_whoever_counts_messages_is_heard_after_them(line: tuple[Channel, Parent]) -> None:
    """As a report's ``published`` is: several threads write, and the parent reads meanwhile."""
    channel, parent = line
    gathered, count = 0, 3000

    def publish() -> None:
        nonlocal gathered
        for number in range(count):
            channel.detections(message(number))
            gathered = number + 1
            if number % 7 == 6:
                channel.flush()
        channel.flush(10.0)

    def report() -> None:
        while publisher.is_alive():
            channel.note(notes.Reply(gathered))

    publisher = threading.Thread(target=publish)
    writers = [publisher, *(threading.Thread(target=report) for _ in range(2))]
    for writer in writers:
        writer.start()
    heard: list[Heard] = []
    while any(writer.is_alive() for writer in writers):
        heard += parent.hear()
    heard += parent.hear_all(channel)
    seen = 0
    for one in heard:
        if isinstance(one, Encoded):
            assert one == message(seen)
            seen += 1
        else:
            assert isinstance(one, notes.Reply)
            assert one.number <= seen
    assert (seen, channel.lost) == (count, 0)


def test_a_parent_that_reads_nothing_costs_whole_batches_and_each_message_is_counted(
    line: tuple[Channel, Parent],
) -> None:
    channel, parent = line
    large = [message(number, 1 << 20) for number in range((MOST_PENDING_BYTES >> 20) + 9)]
    for one in large:  # more than is kept and what the kernel holds: up to 8 MiB
        channel.detections(one)
    assert not channel.flush()
    assert channel.lost == 0, "it was not too much before this batch"
    for number in range(3):
        channel.detections(message(100 + number))
    assert not channel.flush()
    assert channel.lost == 3
    channel.detections(message(103))
    channel.note(notes.LogLine(logging.INFO, "onpace", "left out"), droppable=True)
    channel.note(notes.Reply(1))
    assert channel.lost == 4
    assert parent.hear_all(channel) == [*large, notes.Reply(1)]

    channel.detections(message(104))
    assert channel.flush()
    assert parent.hear() == [message(104)]
    assert channel.lost == 4


def test_a_parent_that_is_gone_upsets_nobody() -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(theirs.detach())
    channel.detections(message(1))
    ours.close()
    assert channel.flush()
    channel.note(notes.Reply(1))
    assert list(channel.orders()) == []
