"""The whole pipeline on a GPU: how fast, how late, and how many cameras."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from pipeline.config.load import config_from_mapping
from pipeline.config.sections import StreamSection
from pipeline.process import prepare_process
from pipeline.workers.open import Run, open_run
from tests.benchmarks.gpu_engine import PLAN_BATCHES

_SUBSCRIBER = """
import os, sys, zmq
parent = os.getppid()
socket = zmq.Context.instance().socket(zmq.SUB)
socket.setsockopt(zmq.SUBSCRIBE, b"")
socket.connect(sys.argv[1])
while os.getppid() == parent:
    if socket.poll(500):
        socket.recv_multipart()
"""
_START_SECONDS = 90.0
_INTERVALS = 2.0


@contextmanager
def playing(clip: Path, model: Path, runtime: str, streams: int, workers: int | str = 1, **more: Any) -> Iterator[Run]:
    """Run a pipeline with tracking on and a subscriber in a process of its own, until every stream has published."""
    prepare_process()
    live = bool(more.pop("live", False))
    with tempfile.TemporaryDirectory() as folder:
        address = f"ipc://{folder}/results"
        config = config_from_mapping(
            {
                "streams": [_stream(number, clip, live=live) for number in range(streams)],
                "infer": {"model": str(model), "runtime": runtime, "precision": "fp16", **more},
                "engine": {"build": "wait", "optimisation_level": 0, "batch": PLAN_BATCHES},
                "track": {"tracker": "bytetrack"},
                "publish": {"sinks": [f"zmq:{address}"]},
                "keepup": {"window": "3s"},
                "workers": {"count": workers},
            },
            origin="benchmark",
        )
        subscriber = subprocess.Popen([sys.executable, "-c", _SUBSCRIBER, address])
        try:
            with open_run(config) as running:
                running.start()
                until = time.monotonic() + _START_SECONDS
                while min(one.ledger.published for one in running.status()) < 5 and time.monotonic() < until:
                    time.sleep(0.1)
                yield running
        finally:
            subscriber.kill()
            subscriber.wait()


def _stream(number: int, clip: Path, *, live: bool) -> dict[str, Any]:
    return {"id": f"s{number}", "url": str(clip), "loop": True, "realtime": live}


def _published(running: Run) -> int:
    return sum(status.ledger.published for status in running.status())


def _cpu_seconds() -> float:
    """Return what this process and its workers have spent."""
    spent = time.process_time()
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "zmq.SUB" not in " ".join(child.cmdline()):  # the subscriber is not ours to count
                times = child.cpu_times()
                spent += times.user + times.system
    return spent


def _rate(running: Run, seconds: float) -> tuple[float, float]:
    """Return frames a second, and CPU-seconds per 1,000 frames of all processes but the subscriber."""
    before, cpu, begun = _published(running), _cpu_seconds(), time.perf_counter()
    time.sleep(seconds)
    frames, cpu, took = _published(running) - before, _cpu_seconds() - cpu, time.perf_counter() - begun
    return frames / took, 1000 * cpu / max(1, frames)


def throughput(
    clip: Path, model: Path, runtime: str, streams: int, workers: int | str, batch: int, seconds: float
) -> dict[str, float]:
    """Frames a second of files, with and without a second busy Python thread, in turns."""
    with playing(clip, model, runtime, streams, workers, batch_size=batch) as running:
        time.sleep(2.0)
        quiet, busy, cpu = [], [], []
        for _ in range(2):
            fps, spent = _rate(running, seconds)
            quiet.append(fps)
            cpu.append(spent)
            with _busy_thread():
                busy.append(_rate(running, seconds)[0])
        failure = running.failure
    if failure is not None:
        raise failure
    return {
        "fps": float(np.mean(quiet)),
        "cpu_seconds_per_1000": float(np.mean(cpu)),
        "fps_beside_busy_thread": float(np.mean(busy)),
        "busy_ratio": float(np.mean(busy) / np.mean(quiet)),
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


def lateness(clip: Path, model: Path, runtime: str, seconds: float) -> dict[str, float]:
    """How old one camera's results are when they are published, and how much of that is decoding and inference."""
    with playing(clip, model, runtime, 1, batch_size=1, live=True) as running:
        time.sleep(2.0)
        seen: list[tuple[float, float, float]] = []
        record = running.times.record

        def listening(inferred: Any, *, age_seconds: float, **others: Any) -> None:
            seen.append((age_seconds, inferred.frame.decode_seconds, inferred.infer_seconds))
            record(inferred, age_seconds=age_seconds, **others)

        running.times.record = listening  # type: ignore[method-assign]
        time.sleep(seconds)
    ages, decoding, inferring = (np.array(column) * 1000 for column in zip(*seen, strict=True))
    figures = {"frames": float(len(seen))}
    for name, values in (("age", ages), ("decode", decoding), ("infer", inferring)):
        figures[f"{name}_ms_p50"], figures[f"{name}_ms_p99"] = map(float, np.percentile(values, (50, 99)))
    return figures


def cameras(
    clip: Path,
    model: Path,
    runtime: str,
    workers: int | str,
    batch: int,
    *,
    first: int,
    step: int,
    most: int,
    seconds: float,
) -> dict[str, Any]:
    """Add cameras until they are no longer carried; return the most that were, and what every step looked like."""
    steps: list[dict[str, float]] = []
    carried = 0
    with playing(clip, model, runtime, first, workers, batch_size=batch, live=True) as running:
        count = first
        while True:
            time.sleep(4.0)  # the new ones settle, and the window holds nothing older
            look = _look(running, seconds)
            steps.append({"cameras": count, **look})
            print(steps[-1], file=sys.stderr, flush=True)
            if look["dropped"] or look["age_ms_p95"] > _INTERVALS * 1000 / 30 or running.failure is not None:
                if len(steps) > 1 or count <= step:
                    break
                return {"carried": 0, "steps": steps}
            carried = count
            if count + step > most:
                break
            for number in range(count, count + step):
                running.streams.add(StreamSection(**_stream(number, clip, live=True)))
            count += step
    return {"carried": carried, "steps": steps}


def _look(running: Run, seconds: float) -> dict[str, float]:
    """Watch for a while: what was dropped, the worst camera's p95 of age at the end, and the rate."""
    before = {status.stream_id: _dropped(status) for status in running.status()}
    fps, cpu = _rate(running, seconds)
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
