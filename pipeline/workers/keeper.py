"""Keeps the workers going: starts them, hands on what they publish, and starts them again when they are lost.

One thread does all of it, and is the run's publish thread, too. It waits for no worker.
"""

from __future__ import annotations

import logging
import os
import selectors
import struct
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from pipeline.clock import monotonic
from pipeline.config.sections import Config
from pipeline.publish.publish_step import status_message
from pipeline.publish.publisher import Publisher
from pipeline.publish.sink import Encoded, Encoding
from pipeline.timeline.timeline import Begun
from pipeline.workers import exits, notes, orders
from pipeline.workers.accounts import Accounts
from pipeline.workers.share import share_of
from pipeline.workers.wire import DETECTIONS, WireError, read_detections
from pipeline.workers.worker import MOST_SILENT_ROUNDS, Worker

MOST_FAILURES = 3
"""Short lives in a row after which a worker's files are given up: a clip that kills its decoder would do so for ever.
Cameras are tried for ever."""

REPORT_SECONDS = 0.5
_TICK_SECONDS = 0.05
_MOST_DYING_ROUNDS = 100
"""After a worker was killed, until it counts as gone though its line has not ended: 5 s or more."""
_GARBLED = (WireError, msgspec.DecodeError, struct.error, UnicodeDecodeError)

_log = logging.getLogger("onpace.workers")


class Pictures(Protocol):
    """Takes pictures of streams for whoever looks."""

    def put(self, seen: notes.Seen) -> None:
        """A picture came."""

    def looks(self, worker: int) -> Sequence[orders.Look]:
        """Return what a worker that starts again has to be told."""


class Keeper:
    """The workers of one run, and the thread that keeps them."""

    def __init__(
        self,
        config: Config,
        workers: Sequence[Worker],
        accounts: Accounts,
        publisher: Publisher,
        encodings: frozenset[Encoding],
        pictures: Pictures,
        *,
        also: Callable[[Encoded], None],
        timeline: Begun | None = None,
    ) -> None:
        """``also`` hears every message that is handed on; it must not wait. The workers add to ``timeline``."""
        self.workers = workers
        self.ticked_at: float | None = None
        """Monotonic seconds when ``run`` last came round; None while it does not run."""
        self.stopping = False
        self._config = config
        self._accounts = accounts
        self._publisher = publisher
        self._encodings = encodings
        self._pictures = pictures
        self._timeline = timeline
        self._also = also
        self._started = False
        self._stop_told: set[int] = set()
        self._under_way: dict[int, bool] = {}
        """Whether a worker played when its line ended."""
        self._next_round = self._next_status = 0.0
        self._changed = threading.Condition()
        self._selector = selectors.DefaultSelector()
        self._wake_reading, self._wake_writing = os.pipe()
        self._selector.register(self._wake_reading, selectors.EVENT_READ, None)

    def run(self) -> None:
        """Work until every worker has ended, then publish a last status of every stream and close the sinks."""
        try:
            while not all(worker.state == "ended" for worker in self.workers):
                now = self.ticked_at = monotonic()
                if now >= self._next_round:  # the rest can wait for a moment, and messages need not
                    self._next_round = now + _TICK_SECONDS
                    self._lead(now)
                    self._publish(now)
                self._listen()
            self._publish_statuses()
        finally:
            self.ticked_at = None
            for worker in self.workers:
                worker.kill()
            self._publisher.close()
            self._selector.close()
            os.close(self._wake_reading)
            self.tell()

    def start(self) -> None:
        """Let the streams of all workers play, now and after every restart."""
        self._started = True
        self._wake()

    def stop(self) -> None:
        """Ask every worker to end; what was received is still published."""
        self.stopping = True
        self._wake()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that changes when a worker gets ready, or is lost."""
        with self._changed:
            self._changed.wait_for(condition)

    def _wake(self) -> None:
        if self.ticked_at is not None:
            os.write(self._wake_writing, b"!")

    def tell(self) -> None:
        """Let whoever waits look again."""
        with self._changed:
            self._changed.notify_all()

    def _lead(self, now: float) -> None:
        for worker in self.workers:
            if worker.state == "dying":
                self._bury(worker, now)
            elif self.stopping:
                self._stop(worker)
            elif worker.state == "waiting":
                if now >= worker.restart_at:
                    self._spawn(worker)
            elif worker.state == "ready" and self._started:
                self._play(worker)
            elif worker.state == "running":
                self._check(worker)

    def _spawn(self, worker: Worker) -> None:
        if worker.failures:
            self._accounts.say(worker.number, f"{worker.cause.partition(';')[0]}; it is being started again")
        worker.spawn()
        self._selector.register(worker.line, selectors.EVENT_READ, worker)

    def _play(self, worker: Worker) -> None:
        for stream_id in self._accounts.paused(worker.number):
            worker.order(orders.Ask(-1, "pause", stream_id))
        worker.order(orders.Start())
        for look in self._pictures.looks(worker.number):
            worker.order(look)
        worker.state = "running"

    def _check(self, worker: Worker) -> None:
        limit, report = self._config.workers.most_memory, worker.report
        worker.silent_rounds += 1
        if worker.kill_reason:
            if worker.silent_rounds > _MOST_DYING_ROUNDS:
                self._hang_up(worker)
        elif worker.silent_rounds > MOST_SILENT_ROUNDS:
            worker.kill("silent")
        elif report is not None and report.stuck:
            worker.last_words = report.stuck
            worker.kill("stuck")
        elif report is not None and limit is not None and report.resident_bytes > limit << 20:
            worker.last_words = f"{report.resident_bytes >> 20} MiB, at most {limit} MiB"
            worker.kill("memory")

    def _stop(self, worker: Worker) -> None:
        if worker.state == "waiting":
            worker.state = "ended"
            self._accounts.end(worker.number, worker.cause, failed=False)
        elif worker.state == "starting":
            worker.kill()  # nothing is under way in it
        elif worker.state != "ended" and worker.number not in self._stop_told:
            self._stop_told.add(worker.number)
            worker.order(orders.Stop())

    def _listen(self) -> None:
        for key, _ in self._selector.select(_TICK_SECONDS):
            if key.data is None:
                os.read(self._wake_reading, 4096)
                self._next_round = 0.0
            else:
                self._hear(key.data)

    def _hear(self, worker: Worker) -> None:
        try:
            frames = worker.read()
            if frames is not None:
                for kind, body in frames:
                    if kind == DETECTIONS:
                        self._forward(read_detections(body))
                    else:
                        self._take(worker, notes.decode(body))
                self._publisher.flush()
                if not worker.failed:  # those were its last words: the end of the line may be long in coming
                    return
        except _GARBLED as error:
            worker.last_words = str(error)
            worker.kill("garbled")
        self._hang_up(worker)

    def _forward(self, message: Encoded) -> None:
        account = self._accounts.get(message.stream_id)
        if account is not None:
            self._publisher.forward(message)
            account.forward(message)
            self._also(message)

    def _take(self, worker: Worker, note: notes.Note) -> None:
        if isinstance(note, notes.Report):
            worker.report = note
            self._accounts.report(worker.number, note)
        elif isinstance(note, notes.LogLine):
            logging.getLogger(note.name).log(note.level, "[worker %d] %s", worker.number, note.message)
        elif isinstance(note, notes.Seen):
            self._pictures.put(note)
        elif isinstance(note, notes.Reply):
            worker.replied(note)
        elif isinstance(note, notes.Hello):
            worker.order(self._assignment(worker))
        elif isinstance(note, notes.Ready):
            worker.ready, worker.state = note, "ready"
            self._next_round = 0.0
            self.tell()
        elif isinstance(note, notes.StartFailed):
            worker.start_failed, worker.last_words = note, note.message
        else:
            worker.last_words = note.message
            worker.failed = True
            worker.kill(note.reason)

    def _assignment(self, worker: Worker) -> orders.Assignment:
        sections, pasts = self._accounts.to_play(worker.number)
        return orders.Assignment(
            number=worker.number,
            workers=len(self.workers),
            config=share_of(self._config, sections, len(self.workers)),
            publisher_id=self._publisher.id,
            encodings=self._encodings,
            pasts=pasts,
            log_level=logging.getLogger().getEffectiveLevel(),
            report_seconds=min(REPORT_SECONDS, self._config.publish.status_interval),
            timeline=self._timeline,
        )

    def _hang_up(self, worker: Worker) -> None:
        self._under_way[worker.number] = worker.state == "running"
        self._selector.unregister(worker.line)
        worker.hang_up(monotonic())
        self._next_round = 0.0

    def _bury(self, worker: Worker, now: float) -> None:
        status = worker.buried(now)
        if status is None:
            return
        if worker.report is not None and worker.report.ended:
            worker.state = "ended"
        else:
            self._lose(worker, worker.kill_reason or exits.reason_of(status), now)
            self._next_status = 0.0  # subscribers learn of it at once
        self.tell()

    def _lose(self, worker: Worker, reason: str, now: float) -> None:
        why = f": {worker.last_words}" if worker.last_words else ""
        ended = f"worker {worker.number} ended: {exits.words_of(reason)}{why}"
        if self.stopping:
            worker.state, worker.cause = "ended", ended
            self._accounts.lose(worker, ended, now)
            self._accounts.end(worker.number, ended, failed=self._under_way[worker.number])
            return
        wait_seconds = worker.wait_before_restart(now)
        worker.restarts[reason] += 1
        worker.cause = f"{ended}; restarting in {wait_seconds:g} s"
        self._accounts.lose(worker, worker.cause, now)
        if worker.failures > MOST_FAILURES:
            self._accounts.give_up_files(worker.number, f"{ended}; given up after {worker.failures} times")
        if not self._accounts.to_play(worker.number)[0] and not self._config.dashboard.stay:
            worker.state = "ended"
        _log.error("%s", worker.cause)

    def _publish(self, now: float) -> None:
        for status in self._accounts.departed():
            self._publisher.publish_status(status_message(status))
        if now >= self._next_status:
            self._next_status = now + self._config.publish.status_interval
            self._publish_statuses()
        self._publisher.tick()

    def _publish_statuses(self) -> None:
        for status in self._accounts.statuses():
            self._publisher.publish_status(status_message(status))
