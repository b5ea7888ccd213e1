"""Headroom is what the scarcest of processor and shared stages leaves, counted in cameras."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.keepup.headroom import USABLE, CpuUse, Headroom
from pipeline.keepup.meter import StreamMeter
from pipeline.keepup.settings import KeepupSettings
from pipeline.keepup.status import StreamStatus, process_status


class Machine:
    """Streams of so many frames a second on a processor of known speed, on a simulated clock."""

    def __init__(
        self,
        streams: int,
        fps: float,
        *,
        cpu_per_frame: float,
        cores: int = 2,
        others: float = 0.0,
        wanted_share: float = 1.0,
    ) -> None:
        self.now, self.published, self.own, self.idle = 100.0, 0.0, 0.0, 0.0
        self.streams, self.fps = streams, fps
        self.cpu_per_frame, self.cores, self.others = cpu_per_frame, cores, others
        self.wanted_share = wanted_share
        self.headroom = Headroom(5.0, cores, lambda: CpuUse(self.own, self.idle))
        meter = StreamMeter("a", KeepupSettings(), live=True)
        self.blank = meter.snapshot(self.now)

    def run(self, seconds: float, shared: tuple[float, ...] = ()) -> list[StreamStatus]:
        statuses: list[StreamStatus] = []
        for _ in range(int(seconds / 0.5)):
            possible = (self.cores - self.others) / self.cpu_per_frame
            rate = min(self.streams * self.fps * self.wanted_share, possible)
            self.now += 0.5
            self.published += 0.5 * rate
            self.own += 0.5 * rate * self.cpu_per_frame
            self.idle += 0.5 * max(0.0, self.cores - self.others - rate * self.cpu_per_frame)
            ledger = replace(self.blank.ledger, published=int(self.published))
            others = replace(self.blank, cadence_fps=self.fps, wanted_share=self.wanted_share)
            first = replace(others, ledger=ledger)
            statuses = self.headroom.update([first] + [others] * (self.streams - 1), shared, self.now)
        return statuses


@pytest.mark.parametrize("streams", [1, 3, 8, 12])
@pytest.mark.parametrize("others", [0.0, 0.5])
def test_the_processor_bounds_the_streams_and_what_others_use_is_gone(streams: int, others: float) -> None:
    statuses = Machine(streams, 25.0, cpu_per_frame=0.008, others=others).run(10)
    fits = (2 * USABLE - others) / (25.0 * 0.008)
    for status in statuses:
        assert status.headroom_streams == pytest.approx(fits - streams, abs=0.5)


def test_a_shared_stage_bounds_the_streams_where_it_is_scarcer() -> None:
    [status, _] = Machine(2, 10.0, cpu_per_frame=0.001).run(10, shared=(0.38, 0.01))
    assert status.headroom_streams == pytest.approx(2 * USABLE / 0.38 - 2, rel=0.05)


def test_frames_that_are_left_out_on_purpose_are_no_demand() -> None:
    [status] = Machine(1, 30.0, cpu_per_frame=0.02, wanted_share=1 / 6).run(10)
    assert status.headroom_streams == pytest.approx(2 * USABLE / (5.0 * 0.02) - 1, rel=0.05)


@pytest.mark.parametrize(
    ("every", "reason", "kept_every", "wanted"),
    [
        (1, "rate", 6, 5.0),
        (3, "stride", 3, 10.0),
        (1, "stride", 3, 30.0),
        (2, "stride", 4, 15.0),
        (1, "stale", 3, 30.0),
    ],
    ids=["rate", "stride", "adapted", "stride that adapts", "overload"],
)
def test_wanted_is_what_was_asked_for(every: int, reason: str, kept_every: int, wanted: float) -> None:
    meter = StreamMeter("a", KeepupSettings(every=every), live=True)
    meter.connection("live", 100.0)
    for index in range(300):
        now = 100.0 + index / 30
        meter.arrived(now)
        if index % kept_every:
            meter.dropped("decode", "decode", reason, now)
            continue
        meter.ledger.move("decode", "publish")
        meter.published(now, age_seconds=0.0, wait_seconds=0.0, service_seconds=0.0, capture_clock="arrival")
    assert meter.snapshot(now).wanted_fps == pytest.approx(wanted, rel=0.05)


def test_too_many_streams_have_less_than_no_room() -> None:
    statuses = Machine(8, 30.0, cpu_per_frame=0.02).run(10, shared=(1.0,))
    assert statuses[0].headroom_streams < -4
    assert process_status(statuses).headroom_streams == statuses[0].headroom_streams


def test_nothing_is_claimed_before_it_is_known_nor_beside_files() -> None:
    machine = Machine(1, 25.0, cpu_per_frame=0.01)
    assert machine.run(0.5)[0].headroom_streams is None
    file = replace(machine.blank, live=False, cadence_fps=25.0)
    assert machine.headroom.update([file], (), machine.now + 9)[0].headroom_streams is None
