"""The slot threads of the runtime in use, and the change to another runtime while frames flow.

Tickets keep the order: the batches of both runtimes go through one batcher and one ``InOrder``. So the change is only
who takes the next batch. The new slots start taking; the old ones finish the batch in hand, put it, and leave; when the
last is gone the old runtime is closed. No frame is lost, and none overtakes another.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from engines.runtime import Runtime, Slot
from pipeline.infer.batcher import Batcher
from pipeline.infer.in_order import InOrder
from pipeline.infer.infer_step import SlotStep
from pipeline.infer.notices import Notices
from pipeline.infer.run_pace import RunPace
from pipeline.stage import StageThread
from pipeline.timeline.timeline import Timeline

_log = logging.getLogger("onpace.infer")


class Slots:
    """The threads of one runtime's slots, and the runtime. Closing twice is safe."""

    def __init__(
        self,
        runtime: Runtime,
        step_of: Callable[[Slot, RunPace], SlotStep],
        batcher: Batcher,
        in_order: InOrder,
        taken: Callable[[str, int], None],
        *,
        just_in_time: Callable[[], bool],
        on_failure: Callable[[BaseException], None],
        timeline: Timeline | None = None,
    ) -> None:
        """``in_order`` counts the slots of ``runtime`` already. ``just_in_time``: all streams are live now."""
        self._step_of = step_of
        self._batcher = batcher
        self._in_order = in_order
        self._taken = taken
        self._just_in_time = just_in_time
        self._on_failure = on_failure
        self._timeline = timeline
        self._lock = threading.Lock()
        self._closed = False
        self._crew = self._crew_of(runtime)

    @property
    def runtime(self) -> Runtime:
        """The runtime in use."""
        return self._crew.runtime

    def stuck(self, patience_seconds: float) -> str:
        """Return which run of the model hangs for longer than that, for people; empty while every run ends."""
        return self._crew.pace.stuck(patience_seconds)

    def threads(self) -> list[StageThread]:
        """Return the threads of the runtime in use."""
        return list(self._crew.threads)

    def start(self) -> None:
        """Begin; returns at once."""
        for thread in self._crew.threads:
            thread.start()

    def change_to(self, runtime: Runtime) -> bool:
        """Run on ``runtime`` from the next batch on, and close the one before; waits until its last batch is done.

        Return False, with ``runtime`` closed, where there is nothing left to run. ``runtime`` belongs to this object
        from now on.
        """
        crew = self._crew_of(runtime)
        with self._lock:
            changed = not self._closed and self._in_order.join(len(crew.threads))
            if changed:
                before, self._crew = self._crew, crew
        if not changed:
            crew.close()
            return False
        for thread in crew.threads:
            thread.start()
        before.retired.set()
        self._batcher.wake()
        for thread in before.threads:
            thread.join()
        before.close()
        _log.info("runtime %s took over from %s", runtime.name, before.runtime.name)
        return True

    def close(self) -> None:
        """Close the runtime in use. Its threads must have ended."""
        with self._lock:
            self._closed = True
            crew = self._crew
        crew.close()

    def _crew_of(self, runtime: Runtime) -> _Crew:
        pace = RunPace(just_in_time=lambda: runtime.concurrent_runs == 1 and self._just_in_time())
        crew = _Crew(runtime, pace)
        try:
            for number, slot in enumerate(runtime.slots):
                step = self._step_of(slot, crew.pace)
                crew.steps.append(step)
                step.share(crew.notices)
                if self._timeline is not None:
                    step.show_on(self._timeline, f"infer-{number}")
                step.warm_up()
                crew.threads.append(self._thread(number, step, crew))
        except BaseException:
            crew.close()
            raise
        return crew

    def _thread(self, number: int, step: SlotStep, crew: _Crew) -> StageThread:
        def infer() -> None:
            step.run(
                *(self._batcher, self._in_order, self._taken),
                most=crew.runtime.max_batch,
                retired=crew.retired,
                slots=len(crew.runtime.slots),
            )

        return StageThread(f"infer-{number}", infer, on_failure=self._on_failure)


@dataclass
class _Crew:
    """Everything that works on one runtime."""

    runtime: Runtime
    pace: RunPace
    retired: threading.Event = field(default_factory=threading.Event)
    steps: list[SlotStep] = field(default_factory=list)
    threads: list[StageThread] = field(default_factory=list)
    notices: Notices = field(default_factory=Notices)

    def close(self) -> None:
        for step in self.steps:  # they hold memory beside the slots': it goes first
            step.close()
        self.runtime.close()
