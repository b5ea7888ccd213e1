"""What is compared: one row a runtime and precision. Plain data; the field names are the keys of ``--json``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from engines.precision.ranges import Method
from engines.precision.typed_model import Precision

Status = Literal["ok", "missing", "failed"]


@dataclass(frozen=True, slots=True)
class Task:
    """What one row's process is asked to do. Plain data: it travels as JSON."""

    model: str
    facts: dict[str, object]
    runtime: str
    precision: Precision | None
    """None: as the file is."""
    calibration: list[str]
    calibration_pictures: int
    calibration_method: Method
    batches: list[int]
    """Ascending, from 1."""
    threads: int | None = None
    optimisation_level: int | None = None
    """Of TensorRT's builder, 0-5; None: the library's own."""
    file_precision: Precision = "fp32"
    """What the file itself is in."""


@dataclass(slots=True)
class Figures:
    """One batch size of a row, over all rounds."""

    batch: int
    runs: int
    latency_ms: dict[str, float]
    """p50, p95, p99 of one run of the batch while nothing else runs, in milliseconds."""
    fps: float
    """Pictures a second with every slot busy: the median of the rounds."""


@dataclass(slots=True)
class Row:
    """One runtime and precision."""

    runtime: str
    precision: Precision
    """What it runs in: what the model was turned into, or what its file is in already."""
    status: Status = "ok"
    why: str = ""
    """What is missing or failed, and what to do; empty where all is well."""
    described: str = ""
    """The runtime's own words."""
    batches: list[Figures] = field(default_factory=list)
    best_batch: int | None = None
    """The batch size with the most pictures a second."""
    host_bytes: int | None = None
    """Resident memory of a process that holds the open runtime, interpreter and libraries included."""
    gpu_bytes: int | None = None
    """Device memory that opening the runtime took; None without a GPU."""
    file_bytes: int | None = None
    """Size of what is loaded: the model's file, or the plan made of it."""
    build_seconds: float | None = None
    """Time to make what is loaded from the model; 0 where that is the model itself."""
    ap: float | None = None
    ap50: float | None = None
    """COCO's, 0-1; None without a dataset."""
    ap_loss: float | None = None
    """Points of AP (0-100) less than the file as it is has on the CPU; negative where it is more."""

    def at(self, batch: int | None) -> Figures | None:
        """Return the figures of a batch size, None where it was not measured."""
        return next((figures for figures in self.batches if figures.batch == batch), None)
