"""Hosts a passive step in a named thread, and tells the pipeline when it ends or fails."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from engines.errors import EngineError
from engines.nvtx import name_this_thread
from pipeline.errors import OnpaceError

_log = logging.getLogger("onpace.stage")


class StageThread:
    """One daemon thread that runs ``body`` to its end.

    An exception that leaves ``body`` is kept in ``error``, logged (with a traceback unless it was raised on purpose),
    and announced by ``on_failure``: a stage never disappears silently.
    """

    def __init__(self, name: str, body: Callable[[], None], *, on_failure: Callable[[BaseException], None]) -> None:
        self.name = name
        self.error: BaseException | None = None
        self._body = body
        self._on_failure = on_failure
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin. Call once."""
        self._thread.start()

    def join(self, timeout_seconds: float | None = None) -> bool:
        """Wait for the end; return whether it came in time. A stage that was never started has ended."""
        if self._thread.ident is None:
            return True
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        name_this_thread(self.name)
        try:
            self._body()
        except BaseException as error:
            self.error = error
            if isinstance(error, (OnpaceError, EngineError)):  # raised on purpose: its words say all there is to say
                _log.error("%s failed: %s", self.name, error)
            else:
                _log.exception("%s failed", self.name)
            self._on_failure(error)
