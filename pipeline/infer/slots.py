"""The slot threads of the runtime in use, and the change to another runtime while frames flow.

Tickets keep the order: the batches of both runtimes go through one batcher and one ``InOrder``. So the change is only
who takes the next batch. The new slots start taking; the old ones finish the batch in hand, put it, and leave; when the
last is gone the old runtime is closed. No frame is lost, and none overtakes another.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from engines.runtime import Runtime, Slot
from pipeline.frame import Frame
from pipeline.infer.batcher import Batcher
from pipeline.infer.in_order import InOrder
from pipeline.infer.infer_step import InferStep
from pipeline.infer.run_pace import RunPace
from pipeline.stage import StageThread

_log = logging.getLogger("onpace.infer")


class Slots:
    """The threads of one runtime's slots. Closing twice is safe."""

    def __init__(
        self,
        runtime: Runtime,
        step_of: Callable[[Slot, RunPace], InferStep],
        batcher: Batcher,
        in_order: InOrder,
        taken: Callable[[Frame], None],
        *,
        just_in_time: bool,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """``in_order`` counts the slots of ``runtime`` already. ``just_in_time`` as in ``RunPace``, for all live."""
        self.runtime = runtime
        self._step_of = step_of
        self._batcher = batcher
        self._in_order = in_order
        self._taken = taken
        self._just_in_time = just_in_time
        self._on_failure = on_failure
        self._lock = threading.Lock()
        self._closed = False
        self._retired = threading.Event()
        self._threads = self._threads_of(runtime, self._retired)

    def threads(self) -> list[StageThread]:
        """Return the threads of the runtime in use."""
        with self._lock:
            return list(self._threads)

    def start(self) -> None:
        """Begin; returns at once."""
        for thread in self.threads():
            thread.start()

    def change_to(self, runtime: Runtime) -> bool:
        """Run on ``runtime`` from the next batch on, and close the one before; waits until its last batch is done.

        Return False, with ``runtime`` closed, where there is nothing left to run. ``runtime`` belongs to this object
        from now on.
        """
        retired = threading.Event()
        threads = self._threads_of(runtime, retired)
        with self._lock:
            changed = not self._closed and self._in_order.join(len(threads))
            if changed:
                before, self.runtime = self.runtime, runtime
                leaving, self._threads = self._threads, threads
                self._retired, retire = retired, self._retired
        if not changed:
            runtime.close()
            return False
        for thread in threads:
            thread.start()
        retire.set()
        self._batcher.wake()
        for thread in leaving:
            thread.join()
        before.close()
        _log.info("runtime %s took over from %s", runtime.name, before.name)
        return True

    def close(self) -> None:
        """Close the runtime in use. Its threads must have ended."""
        with self._lock:
            self._closed = True
            runtime = self.runtime
        runtime.close()

    def _threads_of(self, runtime: Runtime, retired: threading.Event) -> list[StageThread]:
        pace = RunPace(just_in_time=self._just_in_time and runtime.concurrent_runs == 1)
        return [self._thread(number, slot, pace, runtime, retired) for number, slot in enumerate(runtime.slots)]

    def _thread(
        self, number: int, slot: Slot, pace: RunPace, runtime: Runtime, retired: threading.Event
    ) -> StageThread:
        step = self._step_of(slot, pace)

        def infer() -> None:
            step.run(self._batcher, self._in_order, self._taken, most=runtime.max_batch, retired=retired)

        return StageThread(f"infer-{number}", infer, on_failure=self._on_failure)
