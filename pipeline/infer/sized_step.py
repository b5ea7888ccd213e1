"""One slot's work on one batch whose frames may be run at different input sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pipeline.frame import Frame
from pipeline.infer.batch import Batch
from pipeline.infer.infer_step import SlotStep
from pipeline.infer.notices import Notices
from pipeline.infer.resolution import Resolution
from pipeline.infer.run_pace import RunPace
from pipeline.keepup.load import BusyClock
from pipeline.timeline.timeline import Timeline


class SizedStep(SlotStep):
    """Runs the frames of streams that may run smaller at the size in use, the others at the full one.

    Passive and not thread-safe: one per slot. A batch of both is two runs.
    """

    def __init__(
        self,
        steps: Sequence[tuple[tuple[int, int], SlotStep]],
        resolution: Resolution,
        busy: BusyClock,
        pace: RunPace,
    ) -> None:
        """``steps``: width and height of each size, the full one first, and what works at it."""
        super().__init__(busy, pace)
        self._steps = steps
        self._resolution = resolution

    def show_on(self, timeline: Timeline, name: str) -> None:
        """Note on ``timeline`` what is done at any size."""
        for _, step in self._steps:
            step.show_on(timeline, name)

    def share(self, notices: Notices) -> None:
        """Have the steps of all sizes say through ``notices`` what is to be said."""
        super().share(notices)
        for _, step in self._steps:
            step.share(notices)

    def warm_up(self) -> None:
        """Do at every size what would hold the first batch up. Raises RunError."""
        for _, step in self._steps:
            step.warm_up()

    def close(self) -> None:
        """Give back what the steps took."""
        for _, step in self._steps:
            step.close()

    def _enter(self) -> None:
        self._steps[0][1]._enter()

    def _work(self, batch: Batch) -> None:
        level = self._resolution.level
        groups: dict[int, list[Frame]] = {}
        for frame in batch.frames:
            groups.setdefault(level if self._resolution.shrinks(frame) else 0, []).append(frame)
        for place, frames in groups.items():
            size, step = self._steps[min(place, len(self._steps) - 1)]
            part = Batch(batch.ticket, frames, batch.taken_at)
            with self._resolution.working():
                step._work(part)
            self._resolution.ran(frames)
            self._lost = self._lost or step._lost
            batch.inferred.extend(replace(result, input_size=size) for result in part.inferred)
            batch.failed.extend(part.failed)
