"""The streams of a run, as the control API steers them: what is asked reaches the worker that has the stream."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.config.sections import Config, StreamSection
from pipeline.errors import StreamError
from pipeline.keepup.ledger import LedgerSnapshot
from pipeline.plan import plan_stream
from pipeline.streams import Removed
from pipeline.workers.account import Account
from pipeline.workers.accounts import Accounts
from pipeline.workers.keeper import Keeper
from pipeline.workers.orders import Action
from pipeline.workers.share import least_loaded
from pipeline.workers.worker import Worker


class RemoteStreams:
    """As ``Streams``, for streams that play in workers. Thread-safe."""

    def __init__(self, accounts: Accounts, workers: Sequence[Worker], keeper: Keeper, config: Config) -> None:
        self._accounts = accounts
        self._workers = workers
        self._keeper = keeper
        self._config = config

    def get(self, stream_id: str) -> Account | None:
        """Return a stream's account."""
        return self._accounts.get(stream_id)

    def add(self, section: StreamSection) -> None:
        """Take in one more stream. Raises StreamError for a name that is taken, and UrlError."""
        if self._keeper.stopping:
            raise StreamError("the pipeline is ending, and takes no further stream.")
        worker = self._most_idle()
        past = self._accounts.add(section, worker.number)
        try:
            worker.ask("add", section.id, section=section, past=past)
        except StreamError:
            self._accounts.forget(section.id)
            raise

    def section(self, stream_id: str) -> StreamSection:
        """Return how a stream was configured, with what was changed since."""
        return self._accounts.find(stream_id).section

    def change(self, stream_id: str, section: StreamSection) -> None:
        """Let a stream have the terms (rate, deadline, weight, threshold) of ``section``; nothing else is looked at."""
        plan = plan_stream(section, self._config)
        self._worker_of(stream_id).ask("change", stream_id, section=section)
        self._accounts.change(stream_id, plan)

    def pause(self, stream_id: str) -> None:
        """Let a stream leave its source until it is resumed. Raises StreamError where it has ended."""
        self._steer("pause", stream_id, paused=True)

    def resume(self, stream_id: str) -> None:
        """End a pause: the source is opened anew, in a new epoch."""
        self._steer("resume", stream_id, paused=False)

    def restart(self, stream_id: str) -> None:
        """Leave the source and open it anew, in a new epoch."""
        self._steer("restart", stream_id, paused=False)

    def remove(self, stream_id: str, wait_seconds: float = 0.0) -> Removed:
        """Ask a stream to end and to go once its last frame has left; wait so long for that."""
        account = self._accounts.find(stream_id)
        worker = self._worker_of(stream_id)
        if worker.state != "running":  # nothing of it is under way
            return self._accounts.removed(stream_id, Removed(True, LedgerSnapshot(0, 0, {})))
        account.leaving = True
        reply = worker.ask("remove", stream_id, wait_seconds=wait_seconds)
        assert reply.ledger is not None
        return self._accounts.removed(stream_id, Removed(reply.gone, reply.ledger))

    def failed(self) -> list[str]:
        """Return the streams that were given up."""
        return self._accounts.failed()

    def _steer(self, action: Action, stream_id: str, *, paused: bool) -> None:
        account = self._accounts.find(stream_id)
        if account.ended:
            raise StreamError(f"stream '{stream_id}' has ended. To play it again, remove it and add it anew.")
        self._worker_of(stream_id).ask(action, stream_id)
        account.paused = paused

    def _worker_of(self, stream_id: str) -> Worker:
        return self._workers[self._accounts.find(stream_id).worker - 1]

    def _most_idle(self) -> Worker:
        loads = self._accounts.loads(len(self._workers))
        running = [worker for worker in self._workers if worker.state == "running"]
        if not running:
            raise StreamError("no worker is there to take it. Try again in a moment.")
        return running[least_loaded([loads[worker.number - 1] for worker in running])]
