"""How far a build is, as far as the library says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

OnProgress = Callable[[float, str], None]
"""Told the share that is done (0-1, never less than before) and what is being done."""


class Progress:
    """Follows one build. Its share is an estimate: phases nest, and nobody knows beforehand how many there are.

    Thread-safe: builders call from threads of their own.
    """

    def __init__(self, tell: OnProgress) -> None:
        self._tell = tell
        self._lock = threading.RLock()  # whoever is told may cancel
        self._phases: dict[str, tuple[str | None, int, int]] = {}  # phase -> parent, steps, done
        self._furthest = 0.0
        self._kill: Callable[[], object] | None = None
        self.cancelled = False

    def cancel(self) -> None:
        """End the build: at once where ``killing`` says how, else at its next step."""
        with self._lock:
            self.cancelled = True
            kill = self._kill
        if kill is not None:
            kill()

    @contextmanager
    def killing(self, kill: Callable[[], object]) -> Iterator[None]:
        """Meanwhile ``kill`` ends the build at once; it is called now where the build was cancelled before."""
        with self._lock:
            self._kill = kill
            cancelled = self.cancelled
        try:
            if cancelled:
                kill()
            yield
        finally:
            with self._lock:
                self._kill = None

    def reached(self, share: float, phase: str) -> None:
        """Somebody else, who follows the phases, says how far it is."""
        with self._lock:
            self._furthest = max(self._furthest, share)
            self._tell(self._furthest, phase)

    def begin(self, phase: str, parent: str | None, steps: int) -> None:
        """A phase of so many steps begins inside ``parent``."""
        with self._lock:
            self._phases[phase] = (parent, max(1, steps), 0)
            self._report(phase)

    def step(self, phase: str, done: int) -> bool:
        """Step number ``done`` (from 0) of a phase is done. Return whether to go on."""
        with self._lock:
            if phase in self._phases:
                parent, steps, _ = self._phases[phase]
                self._phases[phase] = (parent, steps, min(done + 1, steps))
                self._report(phase)
        return not self.cancelled

    def end(self, phase: str) -> None:
        """A phase is over."""
        with self._lock:
            self._phases.pop(phase, None)

    def _report(self, phase: str) -> None:
        share, at = 0.0, phase
        for _ in range(len(self._phases)):
            parent, steps, done = self._phases[at]
            share = min(1.0, (done + (share if at != phase else 0.0)) / steps)
            if parent is None or parent not in self._phases:
                break
            at = parent
        self._furthest = max(self._furthest, min(share, 0.999))
        self._tell(self._furthest, phase)


def make_monitor(trt: Any, progress: Progress) -> Any:
    """Return the library's own kind of monitor, which tells ``progress``."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """What the library calls."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            progress.begin(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return progress.step(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            progress.end(phase_name)

    return Monitor()
