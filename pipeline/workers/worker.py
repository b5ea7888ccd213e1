"""One worker as its parent sees it: its process, its line, and what it last said."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Literal

from engines.builds import BuildCount, merged
from engines.child import python_module
from pipeline.clock import monotonic
from pipeline.errors import StreamError
from pipeline.metrics.watched import WorkerFacts
from pipeline.workers import notes, orders
from pipeline.workers.wire import ORDER, RECEIVE_BYTES, Frames, frame

State = Literal["starting", "ready", "running", "dying", "waiting", "ended"]

WAITS_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Before the 1st, 2nd, 3rd ... start in a row that came to nothing; then ``workers.restart_max_wait``."""
HELD_SECONDS = 60.0
"""A life that lasted so long was no failed start."""
MOST_SILENT_ROUNDS = 600
"""Reports come twice a second; a worker that says nothing for so many of its parent's rounds (30 s or more) hangs as a
whole. Rounds rather than seconds: a machine that stood still made both of them silent."""
_END_SECONDS = 5.0
_REPLY_SECONDS = 15.0


class Worker:
    """Not thread-safe but for ``ask`` and ``order``: the keeper's thread is its only owner."""

    def __init__(self, number: int, restart_max_wait_seconds: float) -> None:
        self.number = number
        self.state: State = "waiting"
        self.report: notes.Report | None = None
        """The present life's latest."""
        self.ready: notes.Ready | None = None
        self.start_failed: notes.StartFailed | None = None
        self.restarts: Counter[str] = Counter()
        """Why it had to be started again -> how often."""
        self.failures = 0
        """Lives in a row that were short."""
        self.restart_at = 0.0
        """Monotonic seconds, while it waits."""
        self.cause = ""
        """Why it is not there, for people."""
        self.last_words = ""
        self.failed = False
        """Whether it has said its last words."""
        self.kill_reason = ""
        """Why its parent killed it."""
        self.silent_rounds = 0
        self._earlier_cpu_seconds = 0.0
        self._earlier_lost = 0
        self._earlier_builds: list[BuildCount] = []
        self._max_wait = restart_max_wait_seconds
        self._born_at = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._left: list[subprocess.Popen[bytes]] = []
        """Processes that were killed and have not ended yet."""
        self._dying_since = 0.0
        self._socket: socket.socket | None = None
        self._frames = Frames()
        self._buffer = bytearray(RECEIVE_BYTES)
        self._numbers = itertools.count()
        self._waiting: dict[int, _Waiting] = {}
        self._sending = threading.Lock()

    @property
    def line(self) -> socket.socket:
        """What to listen to while it lives."""
        assert self._socket is not None
        return self._socket

    @property
    def pid(self) -> int | None:
        """Of its process, while it lives."""
        return self._process.pid if self._process is not None else None

    @property
    def alive(self) -> bool:
        """Whether there is a process."""
        return self._process is not None

    @property
    def cpu_seconds(self) -> float:
        """Processor time of all its lives, as far as it was reported."""
        living = self.report.cpu_seconds if self.alive and self.report is not None else 0.0
        return self._earlier_cpu_seconds + living

    @property
    def lost(self) -> int:
        """Messages, of all its lives, that its parent was too slow to take."""
        return self._earlier_lost + (self.report.lost if self.alive and self.report is not None else 0)

    @property
    def builds(self) -> list[BuildCount]:
        """What had to be made before its model ran, in all its lives."""
        living = self.report.builds if self.alive and self.report is not None else []
        return merged([*self._earlier_builds, *living])

    @property
    def runtime(self) -> str:
        """What runs the model in it; empty before it is ready."""
        if self.report is not None:
            return self.report.runtime
        return self.ready.runtime if self.ready is not None else ""

    def facts(self) -> WorkerFacts:
        """Return how it is doing, for metrics."""
        report = self.report
        return WorkerFacts(
            number=self.number,
            up=self.state in ("ready", "running"),
            ended=self.state == "ended",
            cause=self.cause,
            restarts=dict(self.restarts),
            cpu_seconds=self.cpu_seconds,
            resident_bytes=report.resident_bytes if self.alive and report is not None else 0,
        )

    def spawn(self) -> None:
        """Begin a life: a fresh interpreter, which inherits nothing but its end of the line."""
        ours, theirs = socket.socketpair()
        with theirs:
            number = theirs.fileno()
            command = python_module("pipeline.workers.child", str(number), str(os.getpid()))
            # What a library prints goes where the log goes: standard output may be a sink's, or the summary's.
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=2, pass_fds=(number,))
        self._socket, self._frames = ours, Frames()
        self.report = self.ready = self.start_failed = None
        self.last_words = self.kill_reason = self.cause = ""
        self.state, self.failed = "starting", False
        self._born_at = monotonic()

    def read(self) -> Iterator[tuple[int, bytes]] | None:
        """Return the frames that came; None where the line has ended. Raises WireError while they are gone through."""
        try:
            # Into a buffer that is there already: a fresh one of this size costs more than all messages in it.
            size = self.line.recv_into(self._buffer, RECEIVE_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return iter(())
        except OSError:
            return None
        self.silent_rounds = 0
        return self._frames.feed(bytes(memoryview(self._buffer)[:size])) if size else None

    def order(self, order: orders.Order) -> None:
        """Say what is to be done; a worker that is gone does not hear it."""
        line = self._socket
        with self._sending, contextlib.suppress(OSError):
            if line is not None:
                line.sendall(frame(ORDER, orders.encode(order)))

    def ask(self, action: orders.Action, stream_id: str, **details: object) -> notes.Reply:
        """Have something done to a stream. Raises StreamError where that is refused, or nobody is there to do it."""
        number = next(self._numbers)
        waiting = self._waiting[number] = _Waiting()
        try:
            if self.state not in ("ready", "running"):
                raise StreamError(f"worker {self.number}, which has stream '{stream_id}', is not there: {self.cause}")
            self.order(orders.Ask(number, action, stream_id, **details))  # type: ignore[arg-type]
            waiting.answered.wait(_REPLY_SECONDS)
        finally:
            del self._waiting[number]
        reply = waiting.reply
        if reply is None:
            raise StreamError(f"worker {self.number}, which has stream '{stream_id}', did not answer. Try again.")
        if reply.error:
            raise StreamError(reply.error, known=reply.known)
        return reply

    def replied(self, reply: notes.Reply | None) -> None:
        """An answer came; None: no answer will come to anything that was asked."""
        waiting = list(self._waiting.values()) if reply is None else [self._waiting.get(reply.number)]
        for one in waiting:
            if one is not None:
                one.reply = reply
                one.answered.set()

    def kill(self, reason: str = "") -> None:
        """End its life at once. ``reason``: as metrics have it, where the exit status would not tell."""
        self.kill_reason = self.kill_reason or reason
        if self._process is not None:
            self._process.kill()

    def hang_up(self, now: float) -> None:
        """The line has ended, and with it what the worker can do: its process is about to end."""
        with self._sending:
            self.line.close()
            self._socket = None
        self.state, self._dying_since = "dying", now
        self.replied(None)

    def buried(self, now: float) -> int | None:
        """Return the exit status of a dying worker, once there is one. Never waits.

        A driver may take long to clean up behind a process: after a while it is left to itself.
        """
        assert self._process is not None
        status = self._process.poll()
        if status is None:
            if now - self._dying_since < _END_SECONDS:
                return None
            self._process.kill()
            self._left.append(self._process)
            status = -signal.SIGKILL
        self._earlier_cpu_seconds, self._earlier_lost = self.cpu_seconds, self.lost
        self._earlier_builds = self.builds
        self._process = None
        self._left = [process for process in self._left if process.poll() is None]
        return status

    def wait_before_restart(self, now: float) -> float:
        """Return how long to wait, in seconds, and note when that is over."""
        if now - self._born_at >= HELD_SECONDS:
            self.failures = 0
        rung = WAITS_SECONDS[self.failures] if self.failures < len(WAITS_SECONDS) else self._max_wait
        self.failures += 1
        wait = min(rung, self._max_wait)
        self.state, self.restart_at = "waiting", now + wait
        return wait


class _Waiting:
    """Somebody who waits for a reply."""

    def __init__(self) -> None:
        self.answered = threading.Event()
        self.reply: notes.Reply | None = None
