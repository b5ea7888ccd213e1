"""Frames a second and processor time of the same streams in one process and shared among several.

python -m tests.benchmarks.bench_workers CLIP MODEL [--workers 1,2,4] [--streams 16] [--runtime cuda] [--live]: every
number of workers is measured in a process of its own, one after the other, ``--rounds`` times. Files are read as fast
as possible or, with ``--live``, paced as cameras. Results are published over ZeroMQ, and one subscriber takes them all.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from pipeline.config.load import config_from_mapping
from pipeline.process import prepare_process
from pipeline.workers.open import open_run

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def cpu_of(pid: int) -> float:
    """Processor seconds of one process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_of(pid: int) -> int:
    """Bytes of memory of one process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def children() -> list[int]:
    """The workers' process ids."""
    listed = (Path("/proc") / str(os.getpid()) / "task").glob("*/children")
    pids = [int(pid) for file in listed for pid in file.read_text().split()]
    return [pid for pid in pids if b"pipeline.workers.child" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def gpu_mib() -> int | None:
    """GPU memory in use by everybody."""
    try:
        command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "-i", "0"]
        return int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def measure(arguments: argparse.Namespace, workers: int) -> dict[str, object]:
    """Run and measure so many workers in this process."""
    prepare_process()
    endpoint = f"ipc://{tempfile.mkdtemp()}/results.sock"
    infer = {"model": arguments.model, "runtime": arguments.runtime, "precision": arguments.precision}
    if arguments.batch:
        infer["batch_size"] = arguments.batch
    stream = {"url": arguments.clip, "loop": True, "realtime": arguments.live}
    config = config_from_mapping(
        {
            "streams": [{"id": f"s{number}", **stream} for number in range(arguments.streams)],
            "infer": infer,
            "track": {"tracker": "bytetrack"},
            "publish": {"sinks": [f"zmq:{endpoint}"]},
            "workers": {"count": workers},
        },
        origin="benchmark",
    )
    subscriber = subprocess.Popen([sys.executable, "-c", _SUBSCRIBER, endpoint])
    try:
        opening = time.monotonic()
        with open_run(config) as run:
            run.start()
            _wait_until(lambda: all(status.ledger.published >= 5 for status in run.status()))
            started_in = time.monotonic() - opening
            time.sleep(arguments.settle)
            pids = children()
            before, published, begun = _cpu(pids), _published(run), time.monotonic()
            time.sleep(arguments.seconds)
            statuses = run.status()
            after, frames, seconds = _cpu(pids), _published(run) - published, time.monotonic() - begun
            parent = 1000 * (after[0] - before[0]) / max(1, frames)
            return {
                "workers": workers,
                "streams": arguments.streams,
                "fps": round(frames / seconds, 1),
                "cpu_seconds_per_1000": round(1000 * sum(after[p] - before[p] for p in after) / max(1, frames), 3),
                "parent_cpu_seconds_per_1000": round(parent, 3) if pids else None,
                "cores": round(sum(after[p] - before[p] for p in after) / seconds, 2),
                "age_p50": _median([status.age_seconds.p50 or 0.0 for status in statuses]),
                "age_p95_worst": round(max(status.age_seconds.p95 or 0.0 for status in statuses), 4),
                "verdicts": dict(Counter(status.verdict for status in statuses)),
                "dropped": sum(status.ledger.dropped_total for status in statuses),
                "cause": next((status.cause for status in statuses if status.cause), ""),
                "started_in_seconds": round(started_in, 1),
                "resident_mib": sum(resident_of(pid) for pid in (os.getpid(), *pids)) >> 20,
                "gpu_mib": gpu_mib(),
                "runtime": run.runtime.name,
            }
    finally:
        subscriber.kill()
        subscriber.wait()


_SUBSCRIBER = """
import sys, zmq
socket = zmq.Context().socket(zmq.SUB)
socket.subscribe(b"")
socket.connect(sys.argv[1])
while True:
    socket.recv_multipart()
"""


def _cpu(pids: list[int]) -> dict[int, float]:
    return {0: sum(os.times()[:2]), **{pid: cpu_of(pid) for pid in pids}}


def _published(run) -> int:
    return sum(status.ledger.published for status in run.status())


def _median(values: list[float]) -> float:
    return round(sorted(values)[len(values) // 2], 4)


def _wait_until(condition, within_seconds: float = 60.0) -> None:
    until = time.monotonic() + within_seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.1)


def main() -> None:
    """Measure every number of workers in turn and print a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip")
    parser.add_argument("model")
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--runtime", default="cpu")
    parser.add_argument("--precision")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--live", action="store_true", help="pace the clip as a camera")
    parser.add_argument("--settle", type=float, default=2.0)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--here", type=int, help="measure so many workers in this very process")
    arguments = parser.parse_args()
    if arguments.here is not None:
        print(json.dumps(measure(arguments, arguments.here)))
        return
    for _ in range(arguments.rounds):
        for workers in arguments.workers.split(","):
            done = subprocess.run(
                [sys.executable, "-m", "tests.benchmarks.bench_workers", *sys.argv[1:], "--here", workers],
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
            lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
            print(lines[-1] if lines else f"exit code {done.returncode}", flush=True)
            threading.Event().wait(0.5)


if __name__ == "__main__":
    main()
