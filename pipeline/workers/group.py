"""A run that several worker processes share: the parent's side, which owns every endpoint and answers every question.

Whoever holds it can treat it as a ``Pipeline``.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple, NoReturn

from engines.cores import usable_cores
from engines.errors import ModelError, RuntimeMissingError
from engines.inspect_model import read_model_spec
from pipeline.config.sections import Config
from pipeline.dashboard.dashboard import Dashboard
from pipeline.errors import InputError, StageError
from pipeline.keepup.headroom import CpuUse, read_cpu_use
from pipeline.keepup.status import StreamStatus
from pipeline.metrics.frame_times import FrameTimes
from pipeline.metrics.metrics import Metrics
from pipeline.metrics.watched import WorkerFacts
from pipeline.plan import plan_stream
from pipeline.publish.publisher import Publisher
from pipeline.publish.sink import Encoded, Encoding, Sink
from pipeline.publish.sinks import open_sinks
from pipeline.samples import find_model
from pipeline.stage import StageThread
from pipeline.timeline.timeline import Timeline
from pipeline.workers.accounts import Accounts
from pipeline.workers.feeding import message_of
from pipeline.workers.keeper import Keeper
from pipeline.workers.pictures import RemotePreview
from pipeline.workers.share import assign, worker_count
from pipeline.workers.steering import RemoteStreams
from pipeline.workers.worker import Worker

_CLOSE_SECONDS = 10.0


class WorkersRuntime(NamedTuple):
    """A runtime that several workers have."""

    name: str
    words: str

    def describe(self) -> str:
        """Return what it is, for people."""
        return self.words


class WorkerGroup:
    """The workers of one run, as one pipeline."""

    def __init__(self, config: Config, config_file: Path | None = None, *, timeline: Timeline | None = None) -> None:
        """Check the input, open the endpoints, then start the workers and wait until they have loaded the model.

        ``config_file``: where ``config`` came from; ``dashboard.save`` writes changes back to it. ``timeline``: the
        workers add to it; whoever opened it closes it.
        Raises InputError (addresses), ModelError and RuntimeMissingError (the model and what runs it), and StageError
        where no worker could start for another reason.
        """
        plans = [plan_stream(section, config) for section in config.streams]
        self.config = config
        self.config_file = config_file
        self.failure: BaseException | None = None
        """What ended the run early; None while it runs and after a proper end."""
        self.spec = read_model_spec(find_model(config.infer.model), config.infer.facts)
        self._workers = [
            Worker(number, config.workers.restart_max_wait) for number in range(1, worker_count(config) + 1)
        ]
        self._accounts = Accounts(config, usable_cores(), self._cpu_use)
        for section, place in zip(config.streams, assign(config.streams, len(self._workers)), strict=True):
            self._accounts.add(section, place + 1)
        with ExitStack() as opened:  # gives back what is open when something after it fails
            self.metrics = opened.enter_context(closing(Metrics(config.metrics.listen)))
            preview = RemotePreview(self._accounts, self._workers, most_fps=config.dashboard.preview_fps)
            cameras = any(plan.endless for plan in plans)
            self.dashboard = opened.enter_context(
                closing(Dashboard(config.dashboard, cameras=cameras, preview=preview))
            )
            self._publisher = opened.enter_context(closing(self._open_publisher(sinks := open_sinks(config.publish))))
            self._keeper = Keeper(
                config,
                self._workers,
                self._accounts,
                self._publisher,
                self._encodings(sinks),
                preview,
                also=self._feed,
                timeline=None if timeline is None else timeline.share(),
            )
            self._thread = StageThread("workers", self._keeper.run, on_failure=self._failed)
            opened.callback(self._end)
            self._thread.start()
            self._wait_until_ready()
            self._opened = opened.pop_all()
        self.streams = RemoteStreams(self._accounts, self._workers, self._keeper, config)
        self.metrics.builds.elsewhere = lambda: (count for worker in self._workers for count in worker.builds)
        self.metrics.watch(self, self.workers)
        self.dashboard.watch(self)

    def start(self) -> None:
        """Begin; returns at once."""
        self._keeper.start()

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait until every stream has ended and every result is out; return whether that is so."""
        return self._thread.join(timeout_seconds)

    def stop(self) -> None:
        """Ask every stream to end. What was received already is still inferred and published: ``wait`` for it."""
        self._keeper.stop()

    def close(self) -> None:
        """Stop, give everything back. Closing twice is safe."""
        self._opened.close()

    def __enter__(self) -> WorkerGroup:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def status(self) -> list[StreamStatus]:
        """How every stream is doing, as of its worker's last report."""
        return self._accounts.statuses()

    def sinks_lost(self) -> dict[str, int]:
        """Sink address -> messages that the sink could not hand on, or that never reached it."""
        late = sum(worker.lost for worker in self._workers)
        return {address: lost + late for address, lost in self._publisher.lost.items()}

    @property
    def times(self) -> FrameTimes:
        """What published frames took, over all workers."""
        return self._accounts.times(self._workers)

    @property
    def model_and_runtime(self) -> tuple[str, str]:
        """The model's name, and what runs it."""
        runtimes = {worker.runtime for worker in self._workers if worker.runtime}
        return self.spec.name, ", ".join(sorted(runtimes)) or "none"

    @property
    def runtime(self) -> WorkersRuntime:
        """What runs the model now, in each worker."""
        words = next((worker.ready.described for worker in self._workers if worker.ready), "no runtime yet")
        return WorkersRuntime(self.model_and_runtime[1], f"{words}, in each of {len(self._workers)} workers")

    def ticked_at(self) -> float | None:
        """Monotonic seconds when the publish thread last came round; None before it starts and after it ended."""
        return self._keeper.ticked_at

    def stuck(self, patience_seconds: float) -> str:
        """Nothing that a restart of the whole would help: a worker that hangs is started again by itself."""
        return ""

    def draining(self) -> bool:
        """Whether it was asked to stop, or has ended."""
        return self._keeper.stopping

    def workers(self) -> Sequence[WorkerFacts]:
        """How every worker is doing."""
        return [worker.facts() for worker in self._workers]

    def _open_publisher(self, sinks: list[Sink]) -> Publisher:
        return Publisher(
            sinks,
            model_name=self.spec.name,
            class_names=self.spec.class_names,
            status_interval=self.config.publish.status_interval,
            also=self.dashboard.feed.send,
        )

    def _encodings(self, sinks: list[Sink]) -> frozenset[Encoding]:
        """Whoever reads along over HTTP needs an encoding, too, where no sink wants one."""
        wanted: set[Encoding] = {sink.encoding for sink in sinks}
        return frozenset(wanted or ({"msgpack"} if self.dashboard.server is not None else ()))

    def _feed(self, message: Encoded) -> None:
        feed = self.dashboard.feed
        if feed.wants_detections(message.stream_id):
            feed.send(message_of(message))

    def _cpu_use(self) -> CpuUse:
        use = read_cpu_use()
        return CpuUse(use.own + sum(worker.cpu_seconds for worker in self._workers), use.idle)

    def _wait_until_ready(self) -> None:
        """Wait until each worker is ready, or was lost once. Raises what keeps them from starting."""
        self._keeper.wait_until(lambda: self.failure is not None or all(map(_is_decided, self._workers)))
        if self.failure is not None:
            raise self.failure
        for worker in self._workers:
            if worker.start_failed is not None and worker.start_failed.problem != "failed":
                _raise(worker.start_failed.problem, worker.start_failed.message)
        if not any(worker.ready for worker in self._workers):
            raise StageError(f"no worker can start: {self._workers[0].cause}", stage="workers")

    def _end(self) -> None:
        self.stop()
        if not self._thread.join(_CLOSE_SECONDS):
            for worker in self._workers:
                worker.kill()
            self._thread.join(_CLOSE_SECONDS)

    def _failed(self, error: BaseException) -> None:
        self.failure = self.failure or error
        self._keeper.stopping = True
        self._keeper.tell()


def _is_decided(worker: Worker) -> bool:
    return worker.ready is not None or worker.start_failed is not None or worker.failures > 0


def _raise(problem: str, message: str) -> NoReturn:
    """Raise what a worker could not start for, as if it had been raised here."""
    errors: dict[str, type[Exception]] = {"model": ModelError, "runtime_missing": RuntimeMissingError}
    raise errors.get(problem, InputError)(message)
