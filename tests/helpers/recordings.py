"""Recordings made as ``onpace record`` makes them."""

from __future__ import annotations

from pathlib import Path

from pipeline.config.sections import Config, InferSection, StreamSection
from pipeline.plan import plan_stream
from pipeline.record.recorder import SegmentLimits, StreamRecorder


def recorded(url: str, folder: Path, *, seconds: float = 300.0, most_bytes: int = 10**9) -> Path:
    """Record ``url`` to its end, in files of so many seconds or bytes; return the folder."""
    section = StreamSection(id="s", url=url)
    plan = plan_stream(section, Config(streams=[section], infer=InferSection(model="none")))
    folder.mkdir(parents=True, exist_ok=True)
    recorder = StreamRecorder(plan, folder, SegmentLimits(seconds, most_bytes), on_failure=lambda error: None)
    recorder.start()
    assert recorder.join(30)
    assert recorder.error is None and recorder.failed is None
    return folder
