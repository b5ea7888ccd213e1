"""Runs at once on what is there, while the plan of the faster runtime is built aside; then the slots change to it."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from engines.errors import EngineError, PlanMissingError
from engines.model_spec import ModelSpec
from engines.precision.kept import is_kept
from engines.precision.typed_model import CALIBRATED
from engines.runtime import (
    PASSED_OVER,
    Runtime,
    RuntimeOptions,
    for_any_runtime,
    open_meanwhile,
    open_runtime,
    runtime_class,
)
from engines.trt.progress import Progress
from pipeline.errors import OnpaceError

WhereToBuild = Literal["aside", "wait", "never"]

_TELL_EVERY = 0.2
"""Share of a build after which a line says how far it is."""

_log = logging.getLogger("onpace.engine")


class Upgrade:
    """A faster runtime that is not ready yet. Closing twice is safe."""

    def __init__(self, name: str, open_it: Callable[[], Runtime], progress: Progress | None = None) -> None:
        """``open_it`` takes as long as it takes; cancelling ``progress`` ends it early."""
        self.name = name
        self._open_it = open_it
        self._progress = progress
        self._cancelled = False
        self._thread: threading.Thread | None = None

    def start(self, change_to: Callable[[Runtime], object]) -> None:
        """Open it in a thread of its own, and hand it to ``change_to`` once it is open."""
        self._thread = threading.Thread(target=self._run, args=(change_to,), name="build", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the build: its process is killed. What remains, a calibration picture or opening a plan, is waited for.

        So no thread is left inside a library when the interpreter ends, which would abort the process.
        """
        self._cancelled = True
        if self._progress is not None:
            self._progress.cancel()
        if self._thread is not None:
            self._thread.join()

    def _run(self, change_to: Callable[[Runtime], object]) -> None:
        try:
            change_to(self._open_it())
        except Exception as error:  # whatever it is (pictures, disk, memory): what runs goes on
            if not self._cancelled:
                known = isinstance(error, (EngineError, OnpaceError, OSError))
                _log.warning("runtime %s is not taken: %s", self.name, error, exc_info=None if known else error)


def open_now(
    name: str,
    model: Path,
    spec: ModelSpec,
    options: RuntimeOptions,
    build: WhereToBuild,
    complete: Callable[[Runtime, RuntimeOptions], Runtime] = lambda runtime, options: runtime,
) -> tuple[Runtime, Upgrade | None]:
    """Return a runtime that can run now, and the one that takes over later, None where there is nothing to wait for.

    Where TensorRT would have to build a plan first: ``aside`` runs on the next best runtime meanwhile (as the file is
    where its precision would first be calibrated), ``wait`` builds it now, ``never`` leaves it (asked for by name:
    PlanMissingError). Where the library refuses a plan, ``auto`` takes the next runtime for good, unless no other has
    the precision. ``complete`` opens what belongs to a runtime besides, with the same options, and is a reason to wait
    like the runtime itself. Raises as ``open_runtime`` does.
    """

    def opened(name: str, options: RuntimeOptions) -> Runtime:
        return complete(open_runtime(name, model, spec, options), options)

    if build == "wait" or name not in ("auto", "tensorrt"):
        telling = replace(options, plans=replace(options.plans, progress=options.plans.progress or Progress(_Teller())))
        return opened(name, telling), None
    ready = replace(options, plans=replace(options.plans, may_build=False))
    if build == "never":
        return opened(name, ready), None
    if name == "auto" and runtime_class("tensorrt").why_not() is not None:
        return opened(name, options), None
    try:
        return opened("tensorrt", ready), None
    except PlanMissingError as error:
        _log.warning("%s It is built now; until it is ready, another runtime runs.", error)
        usable = True
    except PASSED_OVER as error:
        if name != "auto" or for_any_runtime(options) != options:  # no other runtime has this precision
            raise
        _log.warning("auto does not take tensorrt: %s", str(error))  # a kept record must not hold the exception
        usable = False
    if not usable:
        gc.collect()  # the exception held what had been opened
        return complete(open_meanwhile("tensorrt", model, spec, options), options), None
    progress = Progress(_Teller())
    later = replace(options, plans=replace(options.plans, progress=progress))
    options = _at_once(model, spec, options)
    meanwhile = complete(open_meanwhile("tensorrt", model, spec, options), options)
    return meanwhile, Upgrade("tensorrt", lambda: opened("tensorrt", later), progress)


def _at_once(model: Path, spec: ModelSpec, options: RuntimeOptions) -> RuntimeOptions:
    """Return ``options`` for what runs meanwhile: without a precision that it lacks, or would first calibrate."""
    options = for_any_runtime(options)
    precision, pictures = options.precision, options.calibration
    if precision in CALIBRATED and pictures is not None and not is_kept(model, spec, precision, pictures):
        _log.warning("%s is calibrated for the plan; until that is ready, the model runs as its file is.", precision)
        return replace(options, precision=None)
    return options


class _Teller:
    """Logs how far a build is, now and then."""

    def __init__(self) -> None:
        self._next = _TELL_EVERY

    def __call__(self, share: float, phase: str) -> None:
        if share >= self._next:
            self._next = share + _TELL_EVERY
            _log.warning("building: %.0f %% (%s)", 100 * share, phase.lower())
