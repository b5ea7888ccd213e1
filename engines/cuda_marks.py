"""Moments on a CUDA stream, told on the host's clock: for timelines that show host and GPU together."""

from __future__ import annotations

import time
from typing import Any

from engines.device import CudaStream, checked, driver

_ANCHORED_FOR_SECONDS = 2.0
"""CUDA tells the time between two events as a float of milliseconds: the longer, the coarser."""
_ANCHOR_TRIES = 5
_EXACT_SECONDS = 40e-6


class CudaMarks:
    """A few events of one stream, recorded anew for each batch. Closing twice is safe.

    ``record`` may stand in a graph that is being captured: each launch records anew then.
    """

    def __init__(self, cuda_stream: CudaStream, count: int) -> None:
        """Raises RunError."""
        cuda_stream.gpu.use()
        self._cuda_stream = cuda_stream
        self._events: list[Any] = [checked(driver().cuEventCreate(0)) for _ in range(count)]
        self._anchor: Any = checked(driver().cuEventCreate(0))
        self._anchored_at = float("-inf")

    def record(self, index: int) -> None:
        """Record mark ``index`` once the stream comes so far. Raises RunError."""
        stream, event = self._cuda_stream.handle, self._events[index]
        status = driver().CUstreamCaptureStatus.CU_STREAM_CAPTURE_STATUS_NONE
        if checked(driver().cuStreamIsCapturing(stream)) == status:
            checked(driver().cuEventRecord(event, stream))
        else:
            external = driver().CUevent_record_flags.CU_EVENT_RECORD_EXTERNAL
            checked(driver().cuEventRecordWithFlags(event, stream, int(external)))

    def times(self) -> list[float]:
        """Return when each mark was passed, in seconds of ``time.monotonic``. The stream must be through with them.

        Right within some 20 microseconds. Raises RunError.
        """
        if time.monotonic() - self._anchored_at > _ANCHORED_FOR_SECONDS:
            self._drop_anchor()
        # Marks from before the anchor have a negative distance from it.
        return [self._anchored_at + self._seconds_after_anchor(event) for event in self._events]

    def close(self) -> None:
        """Give the events back."""
        events, self._events = self._events, []
        for event in events:
            driver().cuEventDestroy(event)
        if events:
            driver().cuEventDestroy(self._anchor)

    def _seconds_after_anchor(self, event: Any) -> float:
        return float(checked(driver().cuEventElapsedTime(self._anchor, event))) / 1000

    def _drop_anchor(self) -> None:
        """Find out what time it is on both sides, again where the thread was held up meanwhile."""
        for _ in range(_ANCHOR_TRIES):
            begun = time.monotonic()
            checked(driver().cuEventRecord(self._anchor, self._cuda_stream.handle))
            while driver().cuEventQuery(self._anchor)[0] == driver().CUresult.CUDA_ERROR_NOT_READY:
                pass
            ended = time.monotonic()
            self._anchored_at = (begun + ended) / 2
            if ended - begun < _EXACT_SECONDS:
                break
