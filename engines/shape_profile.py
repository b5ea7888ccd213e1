"""The batches that a plan is made for: fewest, most usual, most."""

from __future__ import annotations

from dataclasses import dataclass

from engines.errors import ModelError
from engines.model_spec import ModelSpec

LARGEST_BATCH = 256
DEFAULT_MAX_BATCH = 8


@dataclass(frozen=True, slots=True)
class ShapeProfile:
    """TensorRT picks kernels for the ``best_batch``; every batch from ``min_batch`` to ``max_batch`` runs."""

    min_batch: int = 1
    best_batch: int = 1
    max_batch: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.min_batch <= self.best_batch <= self.max_batch <= LARGEST_BATCH:
            raise ModelError(
                f"batch {self}: got min {self.min_batch}, opt {self.best_batch}, max {self.max_batch}. Allowed: whole "
                f"numbers from 1 to {LARGEST_BATCH}, none less than the one before, as in --batch 1:4:8."
            )

    @classmethod
    def parse(cls, text: str) -> ShapeProfile:
        """Return the profile written as ``MIN:OPT:MAX``, ``MIN:MAX`` or ``MAX``. Raises ModelError."""
        try:
            numbers = [int(part) for part in text.split(":")]
        except ValueError:
            numbers = []
        if len(numbers) == 1:
            return cls(1, numbers[0], numbers[0])
        if len(numbers) == 2:
            return cls(numbers[0], numbers[1], numbers[1])
        if len(numbers) == 3:
            return cls(*numbers)
        raise ModelError(f"batch {text!r}: MIN:OPT:MAX is expected, as in 1:4:8, or one number for the largest batch.")

    @classmethod
    def of(cls, spec: ModelSpec, max_batch: int | None) -> ShapeProfile:
        """Return the profile for a model: its own batch where the file fixes one, else 1 to ``max_batch``."""
        if spec.max_batch is not None:
            return cls(spec.max_batch, spec.max_batch, spec.max_batch)
        most = max_batch or DEFAULT_MAX_BATCH
        return cls(1, most, most)

    def __str__(self) -> str:
        return f"{self.min_batch}:{self.best_batch}:{self.max_batch}"


def batch_that_fits(rows: int, needed_bytes: int, free_bytes: int) -> int:
    """Return the largest batch whose memory fits, when ``rows`` need ``needed_bytes``; 0 where not even one does."""
    return min(rows, int(0.95 * free_bytes * rows / max(1, needed_bytes)))
