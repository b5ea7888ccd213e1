"""A subscriber in a process of its own: counts the results that reach it, and says where their time went.

python -m tests.benchmarks.gpu_subscriber ADDRESS
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import deque

import msgspec
import numpy as np
import zmq

from pipeline.publish.messages import DetectionsMessage

_KEPT_MESSAGES = 20_000
_PERCENTILES = (50, 95, 99)
PARTS = ("age", "before", "decode", "wait", "preprocess", "infer", "postprocess", "track")
"""``before``: from capture until the source had it; ``wait``: in queues, from then on."""


class Subscriber:
    """The process, as the benchmark sees it."""

    def __init__(self, address: str) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.gpu_subscriber", address]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def received(self) -> tuple[int, float]:
        """Return how many results there were, and the monotonic clock."""
        count, at = self._ask("count")
        return int(count), at

    def parts_ms(self) -> dict[str, list[float]]:
        """Return for each of ``PARTS`` its percentiles 50, 95 and 99 in ms, of results since the last call."""
        found: dict[str, list[float]] = self._ask("parts")
        return found

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def _ask(self, what: str):
        print(what, file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


def main(address: str) -> None:
    """Receive until whoever started this is gone; answer what is asked on standard input."""
    parent = os.getppid()
    socket = zmq.Context.instance().socket(zmq.SUB)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.setsockopt(zmq.SUBSCRIBE, b"detections/")
    socket.connect(address)
    received = 0
    latest: deque[bytes] = deque(maxlen=_KEPT_MESSAGES)

    def answer() -> None:
        for line in sys.stdin:
            if line.strip() == "count":
                told: list[float] | dict[str, list[float]] = [received, time.monotonic()]
            else:
                told = _parts_ms([latest.popleft() for _ in range(len(latest))])
            print(json.dumps(told), flush=True)

    threading.Thread(target=answer, daemon=True).start()
    while os.getppid() == parent:
        if socket.poll(500):
            latest.append(socket.recv_multipart()[1])
            received += 1


def _parts_ms(payloads: list[bytes]) -> dict[str, list[float]]:
    decode = msgspec.msgpack.Decoder(DetectionsMessage).decode
    rows = []
    for message in map(decode, payloads):
        spent = message.stage_seconds
        work = (spent.decode, spent.preprocess, spent.infer, spent.postprocess, spent.track)
        before = message.age_seconds - spent.wait - sum(work)
        rows.append((message.age_seconds, before, spent.decode, spent.wait, *work[1:]))
    columns = np.percentile(np.array(rows) * 1000, _PERCENTILES, axis=0).round(2).T.tolist() if rows else []
    return dict(zip(PARTS, columns, strict=False))


if __name__ == "__main__":
    main(sys.argv[1])
