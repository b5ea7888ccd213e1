"""What a time that keeps being measured will likely be next."""

from __future__ import annotations

_NEW_SHARE = 0.15


class Estimate:
    """Mean and mean deviation of the last dozen measurements, newer ones counting more. Not thread-safe for writing."""

    __slots__ = ("deviation", "mean")

    def __init__(self) -> None:
        self.mean: float | None = None
        """Seconds; None before the first measurement."""
        self.deviation = 0.0

    def learn(self, seconds: float) -> None:
        """Take in one measurement."""
        if self.mean is None:
            self.mean = seconds
            return
        off = seconds - self.mean
        self.mean += _NEW_SHARE * off
        self.deviation += _NEW_SHARE * (abs(off) - self.deviation)
