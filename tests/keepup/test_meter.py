from __future__ import annotations

import threading
import time

from pytest import approx, mark, raises

from pipeline.config.sections import KeepupSection
from pipeline.errors import Cause
from pipeline.keepup.ledger import LedgerSnapshot
from pipeline.keepup.load import StageLoad
from pipeline.keepup.meter import StreamMeter
from pipeline.keepup.settings import KeepupSettings
from pipeline.keepup.status import final_verdict, process_status
from tests.keepup.simulator import paced, simulate


def a_meter(*, live: bool = True) -> StreamMeter:
    return StreamMeter("lobby", KeepupSettings(), live=live)


def pass_frame(meter: StreamMeter, at: float, work_seconds: float = 0.01) -> None:
    meter.arrived(at)
    meter.ledger.move("decode", "publish")
    meter.published(
        at + work_seconds,
        age_seconds=work_seconds,
        wait_seconds=0.0,
        service_seconds=work_seconds,
        capture_clock="rtcp",
    )


def flow(meter: StreamMeter, start: float, until: float, fps: float = 25) -> None:
    for at in paced(fps, until, start):
        pass_frame(meter, at)


def test_camera_goes_through_its_states_at_once():
    meter = a_meter()
    verdict = lambda now: meter.snapshot(now).verdict  # noqa: E731
    assert verdict(0.0) == "starting"
    meter.connection("connecting", 0.0)
    meter.connection("waiting", 1.0, cause=Cause.REFUSED, error="rtsp://lobby:554: refused")
    assert verdict(1.0) == "offline"
    assert meter.snapshot(1.0).cause == "connection refused (rtsp://lobby:554: refused)"
    meter.connection("connecting", 2.0)
    assert verdict(2.0) == "offline"
    meter.connection("live", 3.0)
    assert verdict(3.0) == "starting"
    flow(meter, 3.0, 8.0)
    assert verdict(8.0) == "keeping_up"
    meter.connection("waiting", 8.5, cause=Cause.STALLED, error="no picture for 3.0 s")
    assert verdict(8.5) == "reconnecting"
    assert meter.snapshot(8.5).last_error == "no picture for 3.0 s"
    assert verdict(38.5) == "offline"
    meter.connection("live", 40.0)
    assert meter.snapshot(40.0).reconnects == 1
    assert meter.snapshot(40.0).last_error == ""
    flow(meter, 40.0, 45.0)
    assert verdict(45.0) == "keeping_up"
    meter.connection("ended", 46.0)
    assert verdict(46.0) == "ended"
    assert meter.snapshot(46.0).final.kept_pace


@mark.parametrize("cause", [Cause.UNAUTHORISED, Cause.NOT_FOUND, Cause.UNSUPPORTED])
def test_what_waiting_cannot_mend_is_offline_at_once(cause):
    meter = a_meter()
    meter.connection("live", 0.0)
    flow(meter, 0.0, 5.0)
    meter.connection("waiting", 5.0, cause=cause)
    assert meter.snapshot(5.0).verdict == "offline"
    assert meter.snapshot(5.0).cause_stage == "camera"


@mark.parametrize("cause", Cause)
def test_every_cause_has_words(cause):
    meter = a_meter()
    meter.connection("waiting", 0.0, cause=cause)
    assert meter.snapshot(0.0).cause


def test_file_keeps_up_as_long_as_frames_flow_however_slowly():
    meter = a_meter(live=False)
    meter.connection("live", 0.0)
    for number in range(6):
        pass_frame(meter, number * 4.0, work_seconds=4.0)
        assert meter.snapshot(number * 4.0 + 4.0).verdict == "keeping_up"
    meter.connection("ended", 25.0)
    status = meter.snapshot(25.0)
    assert (status.verdict, status.final.verdict) == ("ended", "keeping_up")


def test_file_that_hangs_in_a_stage_is_stalled():
    meter = a_meter(live=False)
    meter.connection("live", 0.0)
    flow(meter, 0.0, 3.0)
    meter.arrived(3.0)
    assert meter.snapshot(7.0).verdict == "keeping_up"
    status = meter.snapshot(9.0, [StageLoad("decode", 0.1, 0, 0), StageLoad("infer", 1.0, 8, 8)])
    assert status.verdict == "stalled"
    assert status.cause == "infer: nothing published for 6.0 s, busy 100 %, queue 8/8"


def test_frames_that_all_fail_are_a_stall_and_not_an_excuse():
    meter = a_meter()
    meter.connection("live", 0.0)
    flow(meter, 0.0, 5.0)
    for at in paced(25, 15.0, 5.0):
        meter.arrived(at)
        meter.dropped("decode", "infer", "failed", at)
    status = meter.snapshot(15.0)
    assert (status.verdict, status.cause_stage) == ("stalled", "infer")
    assert status.cause.startswith("infer gives up every frame (failed): nothing published for ")
    ledger = LedgerSnapshot(10, 0, {"infer": {"failed": 10}})
    assert final_verdict(ledger, None, KeepupSettings(), live=False).verdict == "stalled"


def test_stream_without_a_frame_did_not_keep_pace():
    meter = a_meter()
    meter.connection("waiting", 0.0, cause=Cause.NOT_FOUND, error="404")
    final = meter.snapshot(9.0).final
    assert (final.verdict, final.kept_pace, final.cause) == ("offline", False, "404")


@mark.parametrize(
    ("shed", "damaged", "age_p95", "verdict"),
    [
        (0, 0, 0.1, "keeping_up"),
        (20, 0, 0.1, "keeping_up"),
        (21, 0, 0.1, "overloaded"),
        (0, 900, 0.1, "keeping_up"),
        (3, 900, 0.1, "overloaded"),
        (0, 0, 1.1, "falling_behind"),
    ],
)
def test_final_verdict_counts_overload_and_age_but_excuses_damage(shed, damaged, age_p95, verdict):
    ledger = LedgerSnapshot(1000, 1000 - shed - damaged, {"decode": {"queue_full": shed, "damaged": damaged}})
    assert ledger.balanced
    assert final_verdict(ledger, age_p95, KeepupSettings(), live=True).verdict == verdict


def test_process_is_as_well_as_its_worst_stream():
    good = simulate(paced(30, 15), lambda now: 0.01, until=15).last
    worse = simulate(paced(30, 15), lambda now: 0.06, until=15).last
    worst = simulate(paced(30, 15), lambda now: 0.10, until=15).last
    process = process_status([good, worst, worse])
    assert (process.verdict, process.cause_stage, process.cause) == ("overloaded", "infer", worst.cause)
    assert process_status([good]).verdict == "keeping_up"
    assert process_status([]).verdict == "starting"


def test_frame_that_is_not_there_cannot_be_dropped_or_published():
    meter = a_meter()
    with raises(ValueError, match="leave 'queue'"):
        meter.dropped("queue", "decode", "queue_full", 1.0)
    with raises(ValueError, match="leave 'publish'"):
        meter.published(1.0, age_seconds=0, wait_seconds=0, service_seconds=0, capture_clock="file")
    assert meter.snapshot(1.0).ledger.balanced


def test_settings_come_from_the_configuration():
    section = KeepupSection.model_validate({"window": "2s", "hysteresis": "500ms", "tolerance": 0.1, "max_age": "3s"})
    assert KeepupSettings.from_section(section) == KeepupSettings(2.0, 0.5, 0.1, 3.0)
    assert KeepupSettings.from_section(KeepupSection()) == KeepupSettings()


def test_many_threads_may_report_and_ask_at_once():
    meter, per_thread, threads, balanced = a_meter(), 1500, 4, []
    meter.connection("live", 0.0)
    done = threading.Event()

    def report(offset: int) -> None:
        for number in range(per_thread):
            at = number * 0.01 + offset * 1e-4
            meter.arrived(at)
            if number % 3:
                meter.ledger.move("decode", "publish")
                meter.published(at, age_seconds=0.02, wait_seconds=0.01, service_seconds=0.01, capture_clock="arrival")
            else:
                meter.dropped("decode", "decode", "queue_full", at)

    def ask() -> None:
        while not done.is_set():
            balanced.append(meter.snapshot(15.0).ledger.balanced)

    asking = threading.Thread(target=ask)
    reporting = [threading.Thread(target=report, args=(offset,)) for offset in range(threads)]
    for thread in (asking, *reporting):
        thread.start()
    for thread in reporting:
        thread.join()
    done.set()
    asking.join()
    status = meter.snapshot(15.1)
    assert all(balanced) and balanced
    assert status.ledger.received == threads * per_thread
    assert status.ledger.published == threads * per_thread * 2 // 3
    assert status.ledger.in_flight_total == 0
    assert status.lifetime.age_seconds.max == approx(0.02)


@mark.bench
def test_cost_of_a_call(capsys):
    meter, calls, spent = a_meter(), 50_000, {"arrived": 0.0, "published": 0.0, "dropped": 0.0}
    meter.connection("live", 0.0)
    for number in range(calls):
        at = number / 60
        begun = time.perf_counter()
        meter.arrived(at)
        spent["arrived"] += time.perf_counter() - begun
        begun = time.perf_counter()
        if number % 2:
            meter.dropped("decode", "decode", "queue_full", at)
            spent["dropped"] += time.perf_counter() - begun
        else:
            meter.ledger.move("decode", "publish")
            begun = time.perf_counter()
            age = 0.03 + number % 50 * 0.002
            meter.published(at, age_seconds=age, wait_seconds=0.01, service_seconds=0.02, capture_clock="arrival")
            spent["published"] += time.perf_counter() - begun
    begun = time.perf_counter()
    for number in range(200):
        meter.snapshot(calls / 60 + number * 0.01)
    with capsys.disabled():
        print(f"\narrived {spent['arrived'] / calls * 1e6:.1f} us")
        print(f"published {spent['published'] / calls * 2e6:.1f} us, dropped {spent['dropped'] / calls * 2e6:.1f} us")
        print(f"snapshot {(time.perf_counter() - begun) / 200 * 1e6:.0f} us")
