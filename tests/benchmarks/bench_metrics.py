"""What being asked costs: ``python -m tests.benchmarks.bench_metrics``.

The same work (the bundled clip as fast as it goes, through the bundled detector, into a ZeroMQ sink) in processes that
differ in what they tell: nothing; a status a stream every second; /metrics scraped every second; the dashboard open;
all of it. One works at a time, the others are stopped; they take turns, in an order that turns round, and each turn is
compared with that of the silent one beside it. Two figures: frames a second, and processor time a frame, which other
programs on the machine disturb less.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.helpers.onpace_process import REPOSITORY

_NEVER = "3600s"
MODES: dict[str, dict[str, Any]] = {
    "silent": {},
    "status": {"publish": {"status_interval": "1s"}},
    "metrics": {"metrics": {"listen": "127.0.0.1:0"}},
    "dashboard": {"dashboard": {"listen": "127.0.0.1:0"}},
    "all": {
        "publish": {"status_interval": "1s"},
        "metrics": {"listen": "127.0.0.1:0"},
        "dashboard": {"listen": "127.0.0.1:0"},
    },
}
_SCRAPE_SECONDS = 1.0


def work(mode: str, streams: int) -> None:
    """Run the pipeline of one mode; on each line of the input measure for so many seconds, and print a line."""
    from pipeline.config.load import config_from_mapping
    from pipeline.pipeline import Pipeline
    from pipeline.process import prepare_process

    prepare_process()
    told = MODES[mode]
    with tempfile.TemporaryDirectory() as folder:
        config = config_from_mapping(
            {
                "streams": [{"id": f"s{n}", "url": "sample:street.mp4", "loop": True} for n in range(streams)],
                "infer": {"model": "sample:street.onnx", "runtime": "cpu", "prefer": "throughput"},
                "metrics": told.get("metrics", {}),
                "dashboard": told.get("dashboard", {"listen": None}),
                "publish": {
                    "sinks": [f"zmq:ipc://{folder}/sink"],
                    **{"status_interval": _NEVER, **told.get("publish", {})},
                },
            },
            origin="benchmark",
        )
        with Pipeline(config) as pipeline:
            pipeline.start()
            while not all(stream.meter.ledger.snapshot().published for stream in pipeline.streams.values()):
                time.sleep(0.05)
            server = pipeline.metrics.server
            print(json.dumps({"port": server.port if server else None}), flush=True)
            for line in sys.stdin:
                frames, cpu, begun = published(pipeline), time.process_time(), time.monotonic()
                time.sleep(float(line))
                frames = published(pipeline) - frames
                reply = {
                    "fps": frames / (time.monotonic() - begun),
                    "cpu_seconds_a_frame": (time.process_time() - cpu) / frames,
                }
                print(json.dumps(reply), flush=True)


def published(pipeline: Any) -> int:
    """Return the frames that left, without asking for anybody's status."""
    return sum(stream.meter.ledger.snapshot().published for stream in pipeline.streams.values())


@dataclass
class Worker:
    """A process of one mode, stopped while it has no turn."""

    mode: str
    process: subprocess.Popen[str]
    port: int | None = None
    turns: list[dict[str, float]] = field(default_factory=list)

    @classmethod
    def start(cls, mode: str, streams: int) -> Worker:
        """Start it, wait until it publishes, and stop it."""
        command = [sys.executable, "-m", "tests.benchmarks.bench_metrics", "--work", mode, "--streams", str(streams)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY, env=os.environ
        )
        assert process.stdout is not None
        worker = cls(mode, process, json.loads(process.stdout.readline())["port"])
        process.send_signal(signal.SIGSTOP)
        return worker

    def turn(self, seconds: float) -> None:
        """Let it work for so long, scraped where it is to be."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        over = threading.Event()
        scraper = threading.Thread(target=self._scrape, args=(over,))
        self.process.send_signal(signal.SIGCONT)
        time.sleep(0.3)  # what a jump of the clock sets off is over
        scraper.start()
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        self.turns.append(json.loads(self.process.stdout.readline()))
        over.set()
        scraper.join()
        self.process.send_signal(signal.SIGSTOP)

    def end(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()

    def _scrape(self, over: threading.Event) -> None:
        while self.port and not over.is_set():
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
                answer.read()
            over.wait(_SCRAPE_SECONDS)


def compare(workers: list[Worker], rounds: int, seconds: float) -> dict[str, dict[str, float]]:
    """Let all take turns; return the medians, and what each costs against the silent one, in parts of its figures."""
    for number in range(rounds):
        for worker in workers if number % 2 == 0 else reversed(workers):
            worker.turn(seconds)
    silent = next(worker for worker in workers if worker.mode == "silent")
    found = {}
    for worker in workers:
        pairs = list(zip(worker.turns, silent.turns, strict=True))
        found[worker.mode] = {
            "fps": statistics.median(turn["fps"] for turn in worker.turns),
            "cpu_ms_a_frame": 1000 * statistics.median(turn["cpu_seconds_a_frame"] for turn in worker.turns),
            "fps_lost": 1 - statistics.median(turn["fps"] / base["fps"] for turn, base in pairs),
            "cpu_more": statistics.median(
                turn["cpu_seconds_a_frame"] / base["cpu_seconds_a_frame"] for turn, base in pairs
            )
            - 1,
        }
    return found


def main() -> None:
    """Print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each turn")
    parser.add_argument("--json", type=Path, default=Path("bench_metrics.json"))
    parser.add_argument("--work", choices=MODES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.work, arguments.streams)
        return
    workers: list[Worker] = []
    try:
        for mode in MODES:
            workers.append(Worker.start(mode, arguments.streams))  # noqa: PERF401 - ended below, however many started
        found = compare(workers, arguments.rounds, arguments.seconds)
    finally:
        for worker in workers:
            worker.end()
    print(f"{arguments.streams} streams          frames/s   CPU ms/frame   frames/s lost   CPU more")
    for mode, row in found.items():
        print(
            f"{mode:18} {row['fps']:9.1f} {row['cpu_ms_a_frame']:14.3f} {row['fps_lost']:15.2%} {row['cpu_more']:10.2%}"
        )
    result = {"streams": arguments.streams, "rounds": arguments.rounds, "seconds": arguments.seconds, "modes": found}
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
