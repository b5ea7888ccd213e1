"""What every published frame took, by stream and by stage, since the start."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.infer.batch import InferredFrame
from pipeline.metrics.buckets import AGE_BOUNDS, STAGE_BOUNDS, Buckets

STAGES = ("decode", "preprocess", "infer", "postprocess", "track", "publish")


class FrameTimes:
    """Filled by the publish thread alone, a few microseconds a frame; read by whoever scrapes."""

    def __init__(self, stream_ids: Iterable[str] = ()) -> None:
        ids = tuple(stream_ids)
        self.ages = {stream_id: Buckets(AGE_BOUNDS) for stream_id in ids}
        """From capture to publish."""
        self.waits = {stream_id: Buckets(AGE_BOUNDS) for stream_id in ids}
        """In queues."""
        self.stages = {stage: Buckets(STAGE_BOUNDS) for stage in STAGES}
        """Being worked on, all streams together."""
        self._records = tuple(self.stages[stage].record for stage in STAGES)

    def add(self, stream_id: str) -> None:
        """One more stream. Whoever reads meanwhile sees the streams that were there."""
        self.ages = {**self.ages, stream_id: Buckets(AGE_BOUNDS)}
        self.waits = {**self.waits, stream_id: Buckets(AGE_BOUNDS)}

    def forget(self, stream_id: str) -> None:
        """A stream is gone: nothing of it will be recorded any more."""
        self.ages = {name: buckets for name, buckets in self.ages.items() if name != stream_id}
        self.waits = {name: buckets for name, buckets in self.waits.items() if name != stream_id}

    def record(
        self,
        inferred: InferredFrame,
        *,
        age_seconds: float,
        wait_seconds: float,
        track_seconds: float | None,
        publish_seconds: float,
    ) -> None:
        """Count one published frame. ``track_seconds``: None where nothing tracks."""
        frame = inferred.frame
        self.ages[frame.stream_id].record(age_seconds)
        self.waits[frame.stream_id].record(wait_seconds)
        decode, preprocess, infer, postprocess, track, publish = self._records
        decode(frame.decode_seconds)
        if not inferred.carried:
            preprocess(inferred.preprocess_seconds)
            infer(inferred.infer_seconds)
            postprocess(inferred.postprocess_seconds)
        if track_seconds is not None:
            track(track_seconds)
        publish(publish_seconds)
