"""The streams of all workers: who has which, and how each is doing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from pipeline.clock import monotonic
from pipeline.config.sections import MOST_STREAMS, Config, StreamSection
from pipeline.errors import StreamError
from pipeline.keepup.headroom import CpuUse, Headroom
from pipeline.keepup.status import StreamStatus
from pipeline.metrics.frame_times import FrameTimes
from pipeline.part import Past
from pipeline.plan import StreamPlan, plan_stream
from pipeline.streams import Removed
from pipeline.workers.account import Account
from pipeline.workers.figures import merged_times, times_of
from pipeline.workers.notes import Report
from pipeline.workers.share import load_of
from pipeline.workers.worker import Worker


class Accounts:
    """Stream id -> its account, in the order in which they were added. Thread-safe."""

    def __init__(self, config: Config, cores: int, read_cpu_use: Callable[[], CpuUse]) -> None:
        self._config = config
        self._lock = threading.RLock()
        self._accounts: dict[str, Account] = {}
        """Replaced, never changed."""
        self._pasts: dict[str, Past] = {}
        """Of streams that are gone."""
        self._departed: list[StreamStatus] = []
        self._times_before = times_of(FrameTimes())
        """Of the lives that are over."""
        self._headroom = Headroom(config.keepup.window, cores, read_cpu_use)

    def get(self, stream_id: str) -> Account | None:
        """Return a stream's account."""
        return self._accounts.get(stream_id)

    def find(self, stream_id: str) -> Account:
        """Return a stream's account. Raises StreamError where there is none."""
        account = self._accounts.get(stream_id)
        if account is None:
            raise StreamError.unknown(stream_id, self._accounts)
        return account

    def add(self, section: StreamSection, worker: int) -> Past | None:
        """Open an account; return what a stream of that name left behind. Raises StreamError and UrlError."""
        plan = plan_stream(section, self._config)
        with self._lock:
            known = self._accounts.get(section.id)
            if known is not None:
                remedy = "Wait until its last frame has left." if known.leaving else "Give it another name."
                raise StreamError(f"id '{section.id}': there is such a stream already. {remedy}")
            if len(self._accounts) >= MOST_STREAMS:
                raise StreamError(f"there are {MOST_STREAMS} streams already, and no more are allowed.")
            past = self._pasts.get(section.id)
            account = Account(plan, self._config.keepup, worker, past or Past())
            self._accounts = {**self._accounts, section.id: account}
        return past

    def change(self, stream_id: str, plan: StreamPlan) -> None:
        """A stream is configured differently now."""
        with self._lock:
            self.find(stream_id).plan = plan

    def forget(self, stream_id: str) -> None:
        """A stream is gone, or was never taken."""
        with self._lock:
            account = self.find(stream_id)
            self._pasts[stream_id] = account.past
            self._accounts = {name: other for name, other in self._accounts.items() if name != stream_id}

    def removed(self, stream_id: str, removed: Removed) -> Removed:
        """Return what a removed stream amounted to, all lives of its worker counted; it is forgotten if it is gone."""
        with self._lock:
            account = self.find(stream_id)
            ledger = account.removed(removed.ledger)
            if removed.gone:
                self._depart(account)
            return Removed(removed.gone, ledger)

    def departed(self) -> list[StreamStatus]:
        """Return the last status of each stream that has gone since the last call."""
        with self._lock:
            departed, self._departed = self._departed, []
            return departed

    def of(self, worker: int) -> list[Account]:
        """Return the accounts of a worker's streams."""
        return [account for account in self._accounts.values() if account.worker == worker]

    def values_now(self) -> list[Account]:
        """Return all that are there now."""
        return list(self._accounts.values())

    def loads(self, workers: int) -> list[float]:
        """Return what each worker has to do, in usual cameras."""
        loads = [0.0] * workers
        for account in self._accounts.values():
            if not account.ended:
                loads[account.worker - 1] += load_of(account.section)
        return loads

    def paused(self, worker: int) -> list[str]:
        """Return the streams that somebody paused."""
        return [account.plan.stream_id for account in self.of(worker) if account.paused]

    def to_play(self, worker: int) -> tuple[list[StreamSection], dict[str, Past]]:
        """Return what a worker that starts has to play, and where each has to go on."""
        with self._lock:
            playing = [account for account in self.of(worker) if not (account.ended or account.leaving)]
            return [one.section for one in playing], {one.plan.stream_id: one.past for one in playing}

    def report(self, worker: int, report: Report) -> None:
        """Take in what a worker reports."""
        with self._lock:
            reported = {status.stream_id: status for status in report.statuses}
            for account in self.of(worker):
                stream_id = account.plan.stream_id
                if stream_id in reported:
                    account.report(reported[stream_id], failing=report.failing)
                    account.failed = stream_id in report.failed
                elif account.leaving:
                    self._depart(account)

    def lose(self, worker: Worker, cause: str, now: float) -> None:
        """A worker is gone, with all that was under way in it."""
        with self._lock:
            if worker.report is not None:
                self._times_before = times_of(merged_times([self._times_before, worker.report.times]))
                worker.report = None
            for account in self.of(worker.number):
                if account.leaving:
                    account.lose(cause, now)
                    self._depart(account)
                elif not account.ended:
                    account.lose(cause, now)

    def say(self, worker: int, cause: str) -> None:
        """Say anew why a worker's streams do not deliver."""
        with self._lock:
            for account in self.of(worker):
                account.say(cause)

    def end(self, worker: int, cause: str, *, failed: bool) -> None:
        """A worker will not be started again. ``failed``: something of its streams was under way."""
        with self._lock:
            for account in self.of(worker):
                if not account.ended:
                    account.give_up(cause, failed=failed)

    def give_up_files(self, worker: int, cause: str) -> None:
        """Let what has an end be played no more."""
        with self._lock:
            for account in self.of(worker):
                if not (account.ended or account.plan.endless or account.plan.loop):
                    account.give_up(cause, failed=True)

    def statuses(self) -> list[StreamStatus]:
        """Return how every stream is doing now."""
        with self._lock:
            now = monotonic()
            statuses = [account.status(now) for account in self._accounts.values()]
            return self._headroom.update(statuses, _mean_loads(statuses), now)

    def failed(self) -> list[str]:
        """Return the streams that were given up."""
        return [stream_id for stream_id, account in self._accounts.items() if account.failed]

    def times(self, workers: Sequence[Worker]) -> FrameTimes:
        """Return what published frames took, all lives counted."""
        with self._lock:
            reports = [worker.report for worker in workers if worker.report is not None]
            times = merged_times([self._times_before, *(report.times for report in reports)])
            for gone in times.ages.keys() - self._accounts.keys():
                times.forget(gone)
            return times

    def _depart(self, account: Account) -> None:
        account.leave()
        self._departed.append(account.status(monotonic()))
        self.forget(account.plan.stream_id)


def _mean_loads(statuses: list[StreamStatus]) -> list[float]:
    """Return how busy the stages are that a worker's streams share, on average over the streams."""
    shared: dict[str, list[float]] = {}
    for status in statuses:
        for load in status.loads:
            if load.stage != "decode":
                shared.setdefault(load.stage, []).append(load.utilisation)
    return [sum(loads) / len(loads) for loads in shared.values()]
