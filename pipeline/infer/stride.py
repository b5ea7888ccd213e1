"""Which of one stream's frames the model sees."""

from __future__ import annotations

from pipeline.infer.terms import Terms

LONGEST_ADAPTED_SECONDS = 1.0
"""Where a stride adapts, it grows no longer than this: carried boxes must not run away."""


class Stride:
    """Every n-th frame that is taken is inferred; ``adapt`` leaves out more of them while the model cannot keep up.

    The frames between pass the model by: they cost next to nothing, and a tracker carries its boxes to them. The first
    frame of an epoch is always inferred, because its tracks begin anew.
    """

    __slots__ = ("_epoch", "_inferred_at", "_passed")

    def __init__(self) -> None:
        self._epoch: int | None = None
        self._inferred_at = float("-inf")
        self._passed = 0

    def is_due(self, terms: Terms, epoch: int) -> bool:
        """Whether a frame that is taken now is to be inferred."""
        return epoch != self._epoch or self._passed + 1 >= terms.every

    def may_pass(self, terms: Terms, received_at: float) -> bool:
        """Whether a frame that is due may pass the model by nevertheless, for want of capacity."""
        return terms.adapt and received_at - self._inferred_at < LONGEST_ADAPTED_SECONDS

    def passed(self) -> None:
        """One frame passed the model by."""
        self._passed += 1

    def inferred(self, epoch: int, received_at: float) -> None:
        """One frame, received at that monotonic second, went into the model."""
        self._epoch, self._inferred_at, self._passed = epoch, received_at, 0
