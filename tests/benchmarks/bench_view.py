"""What it costs the pipeline to be looked at: frames a second with four viewers, against without.

One pipeline reads files as fast as it can, so that both cores are full; viewers come and go by turns of a few seconds.
Prints the ratio of neighbours: median, least and most. The viewers run in a process of their own on the same machine,
and what they cost it is counted against us too.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

from engines.cores import usable_cores
from pipeline.config.load import config_from_mapping
from pipeline.pipeline import Pipeline
from pipeline.process import prepare_process
from tests.helpers.onpace_process import REPOSITORY
from tests.helpers.test_data import data_folder

FLOOR = 0.98
VIEW_THREADS = ("dashboard", "preview", "history")
_SETTLE_SECONDS = 0.5


def published(pipeline: Pipeline) -> int:
    """Frames so far, over all streams."""
    return sum(status.ledger.published for status in pipeline.status())


def fps_over(pipeline: Pipeline, seconds: float) -> float:
    """Published frames a second from now on."""
    before, started = published(pipeline), time.monotonic()
    time.sleep(seconds)
    return (published(pipeline) - before) / (time.monotonic() - started)


def view_seconds() -> float:
    """Processor time of the live view's threads so far."""
    threads = (thread for thread in threading.enumerate() if thread.name in VIEW_THREADS)
    return sum(time.clock_gettime(time.pthread_getcpuclockid(thread.ident)) for thread in threads)


def compare(model: str, video: str, streams: int, *, rounds: int, seconds: float, viewers: int) -> None:
    """Print one row."""
    ids = [f"s{number}" for number in range(streams)]
    config = config_from_mapping(
        {
            "streams": [{"id": stream, "url": video, "loop": True} for stream in ids],
            "infer": {"model": model, "runtime": "cpu"},
            "track": {"tracker": "bytetrack"},
            "dashboard": {"listen": "127.0.0.1:0"},
        },
        origin="benchmark",
    )
    with Pipeline(config) as pipeline:
        pipeline.start()
        assert pipeline.dashboard.server is not None
        command = [
            sys.executable,
            "-m",
            "tests.benchmarks.viewers",
            str(pipeline.dashboard.server.port),
            str(viewers),
            "640",
        ]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
        with subprocess.Popen([*command, *ids], cwd=REPOSITORY, **pipes) as audience:
            assert audience.stdin is not None and audience.stdout is not None
            time.sleep(2.0)
            alone, watched, received, spent = [fps_over(pipeline, seconds)], [], 0, 0.0
            for _ in range(rounds):
                audience.stdin.write("on\n")
                audience.stdout.readline()
                time.sleep(_SETTLE_SECONDS)
                spent -= view_seconds()
                watched.append(fps_over(pipeline, seconds))
                spent += view_seconds()
                audience.stdin.write("off\n")
                received += int(audience.stdout.readline())
                time.sleep(_SETTLE_SECONDS)
                alone.append(fps_over(pipeline, seconds))
            audience.stdin.close()
    # Each turn with viewers against the mean of the turns before and after it: the machine's drift cancels.
    ratios = [with_ / ((before + after) / 2) for with_, before, after in zip(watched, alone, alone[1:], strict=False)]
    print(
        f"{Path(model).name:24} {streams:3} streams  {statistics.median(alone):7.1f} fps alone "
        f"{statistics.median(watched):7.1f} watched  ratio {statistics.median(ratios):.3f} "
        f"({min(ratios):.3f} to {max(ratios):.3f}), floor {FLOOR}; "
        f"its threads took {spent / (rounds * seconds) / usable_cores():.2%} of the cores, "
        f"{received / (rounds * seconds) / viewers / 1000:.0f} kB/s a viewer",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--viewers", type=int, default=4)
    arguments = vars(parser.parse_args())
    prepare_process()
    cases = [("sample:street.onnx", "sample:street.mp4", streams) for streams in (1, 9)]
    nano, clip = data_folder() / "models/yolox_nano_416.onnx", data_folder() / "videos/one-by-one-person-detection.mp4"
    if nano.exists():
        cases += [(str(nano), str(clip), 1), (str(nano), str(clip), 4)]
    for case in cases:
        compare(*case, **arguments)


if __name__ == "__main__":
    main()
