"""What nobody would see is not decoded: counted like any other frame, and everything else as if it had been."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from pipeline.bounded_queue import BoundedQueue
from pipeline.capture import Capture, CaptureLimits, StreamContext
from pipeline.clock import monotonic
from pipeline.decode.decoder import Picture, open_decoder
from pipeline.frame import Frame, Packet
from pipeline.infer.batcher import Batcher
from pipeline.infer.outlook import SHEDDING_SECONDS, Outlook
from pipeline.infer.terms import Terms
from pipeline.keepup.load import BusyClock
from pipeline.keepup.meter import StreamMeter
from pipeline.keepup.settings import KeepupSettings
from pipeline.source.source import SourceOptions, open_source
from pipeline.thinning import Thinning
from tests.decode.test_disposable import CLIPS, PICTURES, write_clip


class Counting:
    """A decoder that counts what it is given."""

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder
        self.packets = 0

    def decode(self, packet: Packet) -> list[Picture]:
        self.packets += 1
        return list(self._decoder.decode(packet))

    def drain(self) -> list[Picture]:
        return list(self._decoder.drain())


def context_of(queue: BoundedQueue[Frame], thinning: Thinning, outlook: Outlook | None = None) -> StreamContext:
    meter = StreamMeter("stream", KeepupSettings(), live=outlook is not None)
    limits = CaptureLimits(1 << 24, 3.0)
    return StreamContext("stream", queue, meter, BusyClock(), limits, thinning, outlook or Outlook())


def play(context: StreamContext, path: Path, *, realtime: bool = False) -> int:
    """Play it to its end; return how many packets were decoded."""
    source = open_source(str(path), SourceOptions(realtime=realtime), threading.Event())
    info = source.open()
    decoder = open_decoder(info, 1)
    counting = Counting(decoder)
    Capture(context, 1, info, source, counting, lambda: None).play()
    decoder.close()
    source.close()
    return counting.packets


def clip(folder: Path, name: str) -> Path:
    container_format, encoder, options, _ = CLIPS[name]
    return write_clip(folder / "clip", container_format, encoder, options)


@pytest.mark.parametrize("name", ["mjpeg", "h264 no times", "h264 open", "h264 without b", "hevc"])
def test_a_stride_lets_the_same_number_through_and_decodes_fewer(tmp_path: Path, name: str) -> None:
    queue: BoundedQueue[Frame] = BoundedQueue(1000, "drop_oldest")
    context = context_of(queue, Thinning(every=3))
    decoded = play(context, clip(tmp_path, name))
    ledger = context.meter.ledger.snapshot()
    assert ledger.received == PICTURES
    assert len(queue) == PICTURES / 3
    assert ledger.dropped == {"decode": {"stride": PICTURES - len(queue)}}
    assert ledger.in_flight_total == len(queue)
    assert next(context.frame_indices) == PICTURES
    order = [(frame.index, frame.pts_seconds) for frame in queue.items]
    assert order == sorted(order)
    if name == "mjpeg":
        assert [frame.index for frame in queue.items] == list(range(0, PICTURES, 3))
        assert decoded == PICTURES / 3
        assert [pts for _, pts in order] == pytest.approx([index / 25 for index, _ in order])
    elif name == "h264 without b":
        assert decoded == PICTURES
    else:
        assert decoded < 0.85 * PICTURES


def test_a_rate_lets_the_same_pictures_through_whether_or_not_others_are_decoded(tmp_path: Path) -> None:
    found, decoded = {}, {}
    for name in ("mjpeg", "mpeg2"):
        queue: BoundedQueue[Frame] = BoundedQueue(1000, "drop_oldest")
        context = context_of(queue, Thinning(max_fps=2.0))
        decoded[name] = play(context, clip(tmp_path, name), realtime=True)
        found[name] = [frame.index for frame in queue.items]
        assert context.meter.ledger.snapshot().dropped == {"decode": {"rate": PICTURES - len(queue)}}
    assert found["mjpeg"] == pytest.approx(found["mpeg2"], abs=1)
    assert decoded["mpeg2"] == PICTURES
    # A live stream is looked at four times a second, whatever is left out.
    assert 4 * PICTURES / 25 - 2 <= decoded["mjpeg"] <= 0.5 * PICTURES


def test_an_overloaded_camera_is_shed_before_decoding_and_stays_as_fresh(tmp_path: Path) -> None:
    """25 frames a second, and a model that takes one in 0.3 s."""
    dropped: list[str] = []
    batcher = Batcher(
        batch_size=1, deadline_seconds=0.0, max_age_seconds=1.0, on_drop=lambda frame, reason: dropped.append(reason)
    )
    outlook = Outlook()
    queue = batcher.add_stream(8, "drop_oldest", Terms(), outlook)
    context = context_of(queue, Thinning(), outlook)
    ages: list[float] = []
    indices: list[int] = []

    def work() -> None:
        while (batch := batcher.take()) is not None:
            ages.append(monotonic() - batch.frames[0].captured_at)
            indices.append(batch.frames[0].index)
            time.sleep(0.3)

    worker = threading.Thread(target=work)
    worker.start()
    path, decoded = clip(tmp_path, "mjpeg"), 0
    for _ in range(2):
        decoded += play(context, path, realtime=True)
    queue.close()
    batcher.close()
    worker.join()
    ledger = context.meter.ledger.snapshot()
    left_out = ledger.dropped["decode"]["stale"]
    assert ledger.received == 2 * PICTURES
    assert decoded == 2 * PICTURES - left_out
    assert left_out >= 0.2 * 2 * PICTURES
    assert ledger.dropped_total == left_out + ledger.dropped["decode"].get("queue_full", 0)
    assert ledger.received == ledger.dropped_total + len(dropped) + len(indices)
    assert len(indices) >= 0.75 * 2 * PICTURES / 25 / 0.3, "the model never waited for a picture"
    assert indices == sorted(set(indices))
    assert np.median(ages[4:]) < 0.12, "what is taken is as good as new"


def turns_of(outlook: Outlook, *, every: float, until: float) -> None:
    at = 0.0
    while at <= until:
        outlook.taken(at)
        at += every


def test_only_a_frame_that_is_surely_overtaken_is_given_up() -> None:
    outlook = Outlook()
    for index in range(301):
        outlook.arrived(index / 30)
    turns_of(outlook, every=0.199, until=9.96)
    assert not outlook.is_overtaken(10.0), "not while nothing had to be given up"
    outlook.left_out(9.9)
    assert outlook.is_overtaken(10.0)
    assert not outlook.is_overtaken(9.9 + SHEDDING_SECONDS)
    outlook.arrived(10.0 + 4 / 30)
    assert not outlook.is_overtaken(10.15), "the next one may come after the turn"


def test_frames_that_come_at_random_are_rather_decoded() -> None:
    outlook, random, at = Outlook(), Random(1), 0.0
    while at < 10.0:
        at += random.choice([0.001, 0.001, 0.1])
        outlook.arrived(at)
    turns_of(outlook, every=0.1, until=at)
    outlook.left_out(at)
    assert not outlook.is_overtaken(at)


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        (Terms(), "stale"),
        (Terms(carries=True), "stale"),
        (Terms(adapt=True), "stride"),
        (Terms(adapt=True, carries=True), ""),
        (Terms(every=2, carries=True), ""),
    ],
)
def test_nothing_is_left_out_that_a_track_could_be_carried_to(terms: Terms, reason: str) -> None:
    batcher = Batcher(batch_size=1, deadline_seconds=0.0, max_age_seconds=1.0, on_drop=lambda frame, reason: None)
    outlook = Outlook()
    queue = batcher.add_stream(8, "drop_oldest", Terms(), outlook)
    batcher.change_terms(queue, terms)
    assert outlook.reason == reason
