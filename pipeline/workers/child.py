"""A worker: an ordinary pipeline on its share of the streams, whose results and reports go to its parent.

``python -m pipeline.workers.child FILE_DESCRIPTOR PARENT_PID``, started by ``keeper``.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any, NoReturn

from engines.errors import DeviceLostError, EngineError, ModelError, RuntimeMissingError
from pipeline.errors import InputError, StreamError
from pipeline.part import Part
from pipeline.pipeline import Pipeline
from pipeline.process import prepare_process, set_loaded_aside
from pipeline.timeline.timeline import join_timeline
from pipeline.workers import exits, notes, orders
from pipeline.workers.channel import Channel
from pipeline.workers.figures import cpu_seconds, resident_bytes, times_of
from pipeline.workers.lifeline import hang_on_to_parent, leave_signals_to_parent
from pipeline.workers.looking import Lookers
from pipeline.workers.one_core import OneCore
from pipeline.workers.relay_sink import RelaySink

STUCK_SECONDS = 30.0
"""A run of the model that takes longer hangs: only a new process helps."""

_LAST_WORDS_SECONDS = 5.0
_DRAIN_SECONDS = 2.0
"""For what was under way when a stage failed to be counted as dropped."""


class Child:
    """One worker's life, from its assignment to its end."""

    def __init__(self, channel: Channel, assignment: orders.Assignment, later: Iterator[Any]) -> None:
        """``later``: the orders that follow."""
        self._channel = channel
        self._assignment = assignment
        self._orders = later
        self._started = threading.Event()
        self._stopping = False

    def run(self) -> int:
        """Work until every stream has ended; return the exit code."""
        given = self._assignment
        part = Part(given.publisher_id, RelaySink(self._channel, given.encodings), given.pasts)
        timeline = join_timeline(given.timeline, f"worker {given.number}")
        try:
            pipeline = Pipeline(given.config, part=part, timeline=timeline)
        except (InputError, EngineError) as error:
            self._channel.note(notes.StartFailed(_problem(error), str(error)))
            return exits.DEVICE_LOST if _device_lost(error) else exits.CANNOT_START
        with pipeline:
            lookers = Lookers(pipeline.dashboard.preview, self._channel)
            threading.Thread(target=self._obey, args=(pipeline, lookers), name="orders", daemon=True).start()
            model, runtime = pipeline.model_and_runtime
            set_loaded_aside()
            self._channel.note(notes.Ready(model, runtime, pipeline.runtime.describe()))
            self._started.wait()
            if not self._stopping:
                one_core = self._one_core(pipeline)
                pipeline.start()
                while not pipeline.wait(given.report_seconds) and pipeline.failure is None:
                    self._report(pipeline, ended=False)
                    if one_core is not None:
                        one_core.look()
            if pipeline.failure is not None:
                self._fail(pipeline, pipeline.failure)
            lookers.close()
        self._report(pipeline, ended=True)  # after its end: nothing is under way any more
        if timeline is not None:
            timeline.close()
        return 0

    def _one_core(self, pipeline: Pipeline) -> OneCore | None:
        given = self._assignment
        wanted = given.config.workers.one_core and pipeline.decodes_on_gpu
        return OneCore(given.number, given.workers) if wanted else None

    def _fail(self, pipeline: Pipeline, failure: BaseException) -> NoReturn:
        """Say why, and end at once: what lies on a lost GPU can hang whoever gives it back, and nothing else waits."""
        pipeline.wait(_DRAIN_SECONDS)
        self._report(pipeline, ended=False)
        code = exits.DEVICE_LOST if _device_lost(failure) else exits.FAILED
        self._channel.note(notes.Failed(exits.reason_of(code), f"{type(failure).__name__}: {failure}"))
        self._channel.flush(_LAST_WORDS_SECONDS)
        os._exit(code)

    def _report(self, pipeline: Pipeline, *, ended: bool) -> None:
        report = notes.Report(
            statuses=pipeline.status(),
            failed=pipeline.streams.failed(),
            times=times_of(pipeline.times),
            runtime=pipeline.runtime.name,
            cpu_seconds=cpu_seconds(),
            resident_bytes=resident_bytes(),
            lost=self._channel.lost,
            stuck=pipeline.stuck(STUCK_SECONDS),
            ended=ended,
            failing=pipeline.failure is not None,
            builds=pipeline.metrics.builds.counts(),
        )
        self._channel.note(report, droppable=not ended)

    def _obey(self, pipeline: Pipeline, lookers: Lookers) -> None:
        for order in self._orders:
            if isinstance(order, orders.Start):
                self._started.set()
            elif isinstance(order, orders.Stop):
                self._stopping = True
                pipeline.stop()
                self._started.set()
            elif isinstance(order, orders.Ask):
                # On a thread of its own: a removal waits for the stream's last frame.
                threading.Thread(target=self._answer, args=(pipeline, order), name="ask", daemon=True).start()
            elif isinstance(order, orders.Look):
                lookers.look(order)
            elif isinstance(order, orders.LookAway):
                lookers.look_away(order.number)
        os._exit(0)  # the parent is gone: nobody takes results any more

    def _answer(self, pipeline: Pipeline, ask: orders.Ask) -> None:
        try:
            reply = _done(pipeline, ask)
        except InputError as error:
            known = error.known if isinstance(error, StreamError) else True
            reply = notes.Reply(ask.number, error=str(error), known=known)
        self._channel.note(reply)


def _done(pipeline: Pipeline, ask: orders.Ask) -> notes.Reply:
    streams, stream_id = pipeline.streams, ask.stream_id
    if ask.action == "add":
        assert ask.section is not None
        pipeline.add(ask.section, ask.past)
    elif ask.action == "change":
        assert ask.section is not None
        streams.change(stream_id, ask.section)
    elif ask.action == "remove":
        removed = streams.remove(stream_id, ask.wait_seconds)
        return notes.Reply(ask.number, gone=removed.gone, ledger=removed.ledger)
    else:
        getattr(streams, ask.action)(stream_id)
    return notes.Reply(ask.number)


def _problem(error: Exception) -> notes.Problem:
    if isinstance(error, ModelError):
        return "model"
    if isinstance(error, RuntimeMissingError):
        return "runtime_missing"
    return "input" if isinstance(error, InputError) else "failed"


def _device_lost(error: BaseException) -> bool:
    """Whether the process has lost its GPU for good."""
    return isinstance(error, DeviceLostError)


class _LogToParent(logging.Handler):
    """The parent writes the log of all: lines of several processes do not tear each other's apart."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        self._channel.note(notes.LogLine(record.levelno, record.name, self.format(record)), droppable=True)


def main() -> None:
    """Do what the parent says until it says no more."""
    descriptor, parent = (int(argument) for argument in sys.argv[1:3])
    leave_signals_to_parent()
    hang_on_to_parent(parent)
    faulthandler.enable()  # a crash in a codec or a driver says where it was
    channel = Channel(descriptor)
    channel.note(notes.Hello(os.getpid()))
    later = channel.orders()
    assignment = next(later, None)
    if not isinstance(assignment, orders.Assignment):
        return
    logging.basicConfig(level=assignment.log_level, handlers=[_LogToParent(channel)], format="%(message)s", force=True)
    prepare_process(alone=True)
    try:
        code = Child(channel, assignment, later).run()
    except Exception as error:
        logging.getLogger("onpace.workers").exception("failed unexpectedly")
        channel.note(notes.Failed(exits.reason_of(exits.FAILED), f"{type(error).__name__}: {error}"))
        code = exits.FAILED
    channel.flush(_LAST_WORDS_SECONDS)
    sys.stderr.flush()
    os._exit(code)  # without waiting for what libraries do at their end: everything of ours is closed


if __name__ == "__main__":
    main()
