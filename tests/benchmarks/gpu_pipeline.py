"""The whole pipeline on a GPU: how fast, how late, and how many cameras."""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from pipeline.config.load import config_from_mapping
from pipeline.config.sections import StreamSection
from pipeline.process import prepare_process, set_loaded_aside
from pipeline.workers.open import Run, open_run
from tests.benchmarks.gpu_engine import Runs
from tests.benchmarks.gpu_subscriber import PARTS, Subscriber
from tests.benchmarks.worker_loads import WorkerLoads

_START_SECONDS = 90.0
_SETTLE_SECONDS = 25.0
_GROWS, _STEADY_SECONDS = 1.02, 3
_INTERVALS = 2.0
_FPS = 30.0


@contextmanager
def playing(
    clip: Path, model: Path, runs: Runs, streams: int, workers: int | str = 1, *, live: bool = False, **infer: Any
) -> Iterator[tuple[Run, Subscriber]]:
    """Run a pipeline with tracking on and a subscriber, until every stream has published."""
    prepare_process()
    with tempfile.TemporaryDirectory() as folder:
        address = f"ipc://{folder}/results"
        config = config_from_mapping(
            {
                "streams": [_stream(number, clip, live=live) for number in range(streams)],
                "infer": {"model": str(model), "runtime": runs.runtime, "precision": "fp16", **infer},
                "engine": {
                    "build": "wait",
                    "optimisation_level": runs.level,
                    "batch": runs.batches,
                    "slots": runs.slots,
                },
                "track": {"tracker": "bytetrack"},
                "publish": {"sinks": [f"zmq:{address}"]},
                "keepup": {"window": "3s"},
                "workers": {"count": workers},
            },
            origin="benchmark",
        )
        subscriber = Subscriber(address)
        try:
            with open_run(config) as running:
                set_loaded_aside()
                running.start()
                until = time.monotonic() + _START_SECONDS
                while min(one.ledger.published for one in running.status()) < 5 and time.monotonic() < until:
                    time.sleep(0.1)
                yield running, subscriber
        finally:
            subscriber.close()


def _stream(number: int, clip: Path, *, live: bool) -> dict[str, Any]:
    return {"id": f"s{number}", "url": str(clip), "loop": True, "realtime": live}


def _cpu_seconds() -> float:
    """Return what this process and its workers have spent."""
    spent = time.process_time()
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "gpu_subscriber" not in " ".join(child.cmdline()):  # the subscriber is not ours to count
                times = child.cpu_times()
                spent += times.user + times.system
    return spent


def _rate(subscriber: Subscriber, seconds: float) -> tuple[float, float]:
    """Return results a second at the subscriber, and CPU-seconds per 1,000 of them, of all processes but it."""
    cpu, (before, begun) = _cpu_seconds(), subscriber.received()
    time.sleep(seconds)
    spent, (after, ended) = _cpu_seconds() - cpu, subscriber.received()
    return (after - before) / (ended - begun), 1000 * spent / max(1, after - before)


def _settle(subscriber: Subscriber) -> None:
    """Wait until the rate has not grown for a while: workers find their cores, and decoders are made one by one."""
    best, steady, until = 0.0, 0, time.monotonic() + _SETTLE_SECONDS
    while steady < _STEADY_SECONDS and time.monotonic() < until:
        now = _rate(subscriber, 1.0)[0]
        steady = 0 if now > _GROWS * best else steady + 1
        best = max(best, now)


def throughput(
    clip: Path, model: Path, runs: Runs, streams: int, workers: int | str, batch: int, seconds: float
) -> dict[str, Any]:
    """Frames a second of files, with and without a second busy Python thread, in turns."""
    with playing(clip, model, runs, streams, workers, batch_size=batch) as (running, subscriber):
        _settle(subscriber)
        subscriber.parts_ms()
        quiet, busy, cpu = [], [], []
        for _ in range(2):
            fps, spent = _rate(subscriber, seconds)
            quiet.append(fps)
            cpu.append(spent)
            with _busy_thread():
                busy.append(_rate(subscriber, seconds)[0])
        parts = subscriber.parts_ms()
        failure = running.failure
    if failure is not None:
        raise failure
    return {
        "fps": float(np.mean(quiet)),
        "cpu_seconds_per_1000": float(np.mean(cpu)),
        "fps_beside_busy_thread": float(np.mean(busy)),
        "busy_ratio": float(np.mean(busy) / np.mean(quiet)),
        "windows_fps": [round(fps) for pair in zip(quiet, busy, strict=True) for fps in pair],
        "ms_p50_p95_p99": parts,
    }


@contextmanager
def _busy_thread() -> Iterator[None]:
    done = threading.Event()

    def count() -> None:
        number = 0
        while not done.is_set():
            for _ in range(1000):
                number += 1

    thread = threading.Thread(target=count, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def lateness(clip: Path, model: Path, runs: Runs, seconds: float) -> dict[str, Any]:
    """How old one camera's results are when they are published, and how much of that is decoding and inference."""
    with playing(clip, model, runs, 1, batch_size=1, live=True) as (running, _):
        time.sleep(2.0)
        seen: list[tuple[float, ...]] = []
        moments: list[float] = []
        record = running.times.record

        def listening(inferred: Any, *, age_seconds: float, **others: Any) -> None:
            frame, wait = inferred.frame, others["wait_seconds"]
            work = (inferred.preprocess_seconds, inferred.infer_seconds, inferred.postprocess_seconds)
            track = others["track_seconds"] or 0.0
            before = age_seconds - wait - frame.decode_seconds - sum(work) - track
            seen.append((age_seconds, before, frame.decode_seconds, wait, *work, track))
            moments.append(time.monotonic())
            record(inferred, age_seconds=age_seconds, **others)

        running.times.record = listening  # type: ignore[method-assign]
        time.sleep(seconds)
    rows = np.array(seen) * 1000
    figures = {"frames": float(len(rows))}
    for name, values in zip(PARTS, rows.T, strict=True):
        figures[f"{name}_ms_p50"], figures[f"{name}_ms_p99"] = map(float, np.percentile(values, (50, 99)))
    among_slowest = rows[:, 0] >= np.percentile(rows[:, 0], 98)
    slowest = rows[among_slowest]
    return {
        **figures,
        "slowest_at_seconds": [round(at - moments[0], 2) for at in np.array(moments)[among_slowest]],
        **{f"{name}_ms_slowest": float(value) for name, value in zip(PARTS, slowest.mean(0), strict=True)},
    }


def cameras(
    clip: Path,
    model: Path,
    runs: Runs,
    workers: int | str,
    infer: dict[str, Any],
    counts: Sequence[int],
    seconds: float,
) -> dict[str, Any]:
    """Add cameras until they are no longer carried; return the most that were, and what every step looked like.

    Decoders are made one after another, and pictures wait meanwhile: each step has time to make up for that. ``infer``:
    of the configuration.
    """
    steps: list[dict[str, Any]] = []
    with playing(clip, model, runs, counts[0], workers, live=True, **infer) as (running, subscriber):
        there = counts[0]
        for count in counts:
            for number in range(there, count):
                running.streams.add(StreamSection(**_stream(number, clip, live=True)))
            there = count
            until = time.monotonic() + _SETTLE_SECONDS
            while not _is_carried(look := _look(running, subscriber, 3.0), count) and time.monotonic() < until:
                pass
            subscriber.parts_ms()
            loads = WorkerLoads()
            look = _look(running, subscriber, seconds)
            steps.append({"cameras": count, **look, "ms_p50_p95_p99": subscriber.parts_ms(), "workers": loads.since()})
            print(steps[-1], file=sys.stderr, flush=True)
            if not _is_carried(look, count) or running.failure is not None:
                break
    carried = [int(step["cameras"]) for step in steps if _is_carried(step, int(step["cameras"]))]
    return {"carried": max(carried, default=0), "steps": steps}


def _is_carried(look: dict[str, float], count: int) -> bool:
    late = look["age_ms_p95"] > _INTERVALS * 1000 / _FPS
    return not look["dropped"] and not late and look["fps"] > 0.98 * count * _FPS


def _look(running: Run, subscriber: Subscriber, seconds: float) -> dict[str, float]:
    """Watch for a while: what was dropped, the worst camera's p95 of age at the end, and the rate."""
    before = {status.stream_id: _dropped(status) for status in running.status()}
    fps, cpu = _rate(subscriber, seconds)
    statuses = running.status()
    ages = [status.age_seconds.p95 for status in statuses]
    known = [1000 * age for age in ages if age is not None]
    return {
        "fps": fps,
        "cpu_seconds_per_1000": cpu,
        "dropped": float(sum(_dropped(status) - before.get(status.stream_id, 0) for status in statuses)),
        "age_ms_p95": max(known) if len(known) == len(ages) else float("inf"),
        "age_ms_p95_median": float(np.median(known)) if known else float("inf"),
    }


def _dropped(status: Any) -> int:
    return sum(count for reasons in status.ledger.dropped.values() for count in reasons.values())
