"""The TensorRT that is here, and what it offers. Errors are return values there: their words come from the log."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from engines.errors import RuntimeMissingError

Flavour = Literal["tensorrt", "tensorrt_rtx"]
FLAVOURS: tuple[Flavour, ...] = ("tensorrt", "tensorrt_rtx")
"""Best first. They are different libraries with the same calls; plans of one do not run in the other."""

_log = logging.getLogger("onpace.tensorrt")
_MOST_KEPT = 20


@dataclass(frozen=True)
class TrtLibrary:
    """One library, its logger (which must outlive everything made with it) and what it can do."""

    trt: Any
    """The module."""
    flavour: Flavour
    version: str
    logger: Any
    said: deque[str]
    """The last errors, oldest first."""
    too_large: deque[str]
    """The last kernels that were passed over because they want more memory than there is."""

    @property
    def builds(self) -> bool:
        """Whether it has a builder: the lean runtime has none."""
        return hasattr(self.trt, "Builder") and hasattr(self.trt, "OnnxParser")

    @property
    def strongly_typed(self) -> bool:
        """Whether types come from the network alone. Otherwise precisions have to be allowed by flags."""
        return hasattr(self.trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")

    @property
    def builds_without_gpu(self) -> bool:
        """Whether plans are portable between GPUs, and built without one."""
        return hasattr(self.trt, "ComputeCapability")

    @property
    def shows_progress(self) -> bool:
        """Whether it says while it builds how far it is."""
        return hasattr(self.trt, "IProgressMonitor")

    @property
    def has_timing_cache(self) -> bool:
        """Whether measured kernels can be kept for the next build."""
        return not self.builds_without_gpu  # RTX measures nothing

    @property
    def precisions(self) -> tuple[str, ...]:
        """What models may be turned into for it. Whether the GPU multiplies in fp8 (from Ada on), the builder knows."""
        newer = (("bf16", "BF16"), ("fp8", "FP8")) if self.strongly_typed else ()
        return "fp32", "fp16", "int8", *(name for name, kind in newer if hasattr(self.trt.DataType, kind))

    def require(self, precision: str | None) -> None:
        """Raise RuntimeMissingError for a precision that the library does not have; None: as the file is."""
        if precision is not None and precision not in self.precisions:
            raise RuntimeMissingError(
                f"{self.flavour} {self.version} runs no {precision}. Allowed here: {', '.join(self.precisions)}; bf16 "
                "and fp8 need TensorRT 10 or later, or TensorRT for RTX."
            )

    def has_flag(self, name: str) -> bool:
        """Whether the builder knows this flag."""
        return hasattr(self.trt.BuilderFlag, name)

    def creation_flags(self) -> int:
        """Return the flags of a network with its batch among the dimensions and its types in the file."""
        known = self.trt.NetworkDefinitionCreationFlag
        names = [name for name in ("EXPLICIT_BATCH", "STRONGLY_TYPED") if hasattr(known, name)]
        return sum(1 << int(getattr(known, name)) for name in names)

    @contextmanager
    def listening(self) -> Iterator[deque[str]]:
        """Yield what the library complains about from now on."""
        self.said.clear()
        self.too_large.clear()
        yield self.said

    def complaint(self) -> str:
        """Return what it said last, for messages."""
        return " | ".join(dict.fromkeys(self.said)) or "it does not say why"


@functools.cache
def load_library(flavour: Flavour) -> TrtLibrary:
    """Return the library called ``flavour``. Raises RuntimeMissingError where it is not here or does not load."""
    remedy = (
        'On a desktop or server: pip install "onpace[tensorrt]"; on a Jetson it is there already, for the system\'s '
        "Python (python3 -m venv --system-site-packages); docs/install.md."
        if flavour == "tensorrt"
        else "pip install tensorrt-rtx (GeForce and RTX PRO from Turing on)."
    )
    try:
        trt = importlib.import_module(flavour)
    except ModuleNotFoundError as error:
        raise RuntimeMissingError(f"{flavour}: {error}. {remedy}") from error
    except Exception as error:  # its own loader raises whatever it likes where libraries are missing
        raise RuntimeMissingError(f"{flavour} is installed but does not load: {error}. {remedy}") from error
    said: deque[str] = deque(maxlen=_MOST_KEPT)
    too_large: deque[str] = deque(maxlen=_MOST_KEPT)
    logger = _make_logger(trt, said, too_large)
    if hasattr(trt, "init_libnvinfer_plugins"):
        trt.init_libnvinfer_plugins(logger, "")  # EfficientNMS and its like: in files, and in plans made of them
    return TrtLibrary(trt, flavour, str(trt.__version__), logger, said, too_large)


def find_library() -> TrtLibrary:
    """Return the first library that is installed. Raises RuntimeMissingError where none is, or where it is broken."""
    for flavour in FLAVOURS:
        if importlib.util.find_spec(flavour) is not None:
            return load_library(flavour)
    return load_library(FLAVOURS[0])  # which says how to install it


def _make_logger(trt: Any, said: deque[str], too_large: deque[str]) -> Any:
    levels = {
        trt.ILogger.Severity.INTERNAL_ERROR: logging.ERROR,
        trt.ILogger.Severity.ERROR: logging.ERROR,
        trt.ILogger.Severity.WARNING: logging.DEBUG,  # of kernels that do not fit, mostly
    }
    lock = threading.Lock()

    class Logger(trt.ILogger):  # type: ignore[misc]
        """Keeps errors for whoever turns them into exceptions."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            level = levels.get(severity)
            if level is None:
                return
            _log.debug("%s", message)
            kept = said if level == logging.ERROR else too_large if "insufficient" in message.lower() else None
            if kept is not None:
                with lock:
                    kept.append(" ".join(message.split())[:400])

    return Logger()
