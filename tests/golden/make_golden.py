"""Writes the golden messages of the current schema version: ``python -m tests.golden.make_golden``.

Run it once, when a version is released; what is committed is never written again: subscribers out there rely on it.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from pipeline.publish.messages import (
    SCHEMA_VERSION,
    AgePercentiles,
    DetectedObject,
    DetectionsMessage,
    Message,
    StageSeconds,
    StatusMessage,
)

FOLDER = Path(__file__).parent


def golden_messages() -> dict[str, Message]:
    """One message of each kind with every field set, and one of each with the fewest."""
    times = StageSeconds(decode=0.004, wait=0.011, preprocess=0.001, infer=0.02, postprocess=0.0005, track=0.0002)
    tracked = DetectedObject((12.25, 34.5, 120.75, 300.0), 0.9123, 2, "car", 41, 3.2, "confirmed")
    plain = DetectedObject((0.0, 0.0, 1920.0, 1080.0), 0.25, 0, "person")
    common = {"schema_version": SCHEMA_VERSION, "publisher": "0123456789abcdef"}
    full = DetectionsMessage(
        **common, stream_id="lobby", epoch=2, sequence=1234, frame_index=1250, pts_seconds=49.36,
        capture_utc=1790000000.125, capture_clock="rtcp", published_utc=1790000000.1875, age_seconds=0.0625,
        frame_width=1920, frame_height=1080, model="yolox_nano", objects=[tracked, plain], stage_seconds=times,
        truncated=True, damaged=True, inferred=False,
    )  # fmt: skip
    nothing = DetectionsMessage(
        **common, stream_id="gate", epoch=1, sequence=1, frame_index=0, pts_seconds=0.0,
        capture_utc=1790000000.0, capture_clock="file", published_utc=1790000000.5, age_seconds=0.5,
        frame_width=640, frame_height=480, model="street", objects=[], stage_seconds=times,
    )  # fmt: skip
    busy = StatusMessage(
        **common, stream_id="lobby", epoch=2, sequence=1234, published_utc=1790000001.0, verdict="overloaded",
        cause="infer is 98% busy", state="live", received=1300, published=1234, in_flight=3,
        dropped={"decode": {"corrupt": 2}, "queue": {"drop_oldest": 61}}, cadence_fps=25.02, published_fps=23.4,
        age_seconds=AgePercentiles(p50=0.04, p95=0.09, p99=0.12, max=0.3), wait_seconds_p95=0.05,
        service_seconds_p95=0.03, capture_clock="rtcp", reconnects=1, last_error="stalled for 3.0 s",
        status_interval_seconds=2.0,
    )  # fmt: skip
    starting = StatusMessage(
        **common, stream_id="gate", epoch=0, sequence=0, published_utc=1790000000.0, verdict="starting", cause="",
        state="connecting", received=0, published=0, in_flight=0, dropped={}, cadence_fps=None, published_fps=None,
        age_seconds=AgePercentiles(p50=None, p95=None, p99=None, max=None), wait_seconds_p95=None,
        service_seconds_p95=None, capture_clock=None, reconnects=0, last_error="",
    )  # fmt: skip
    return {"detections_full": full, "detections_nothing": nothing, "status_busy": busy, "status_starting": starting}


if __name__ == "__main__":
    for name, message in golden_messages().items():
        stem = FOLDER / f"v{SCHEMA_VERSION}_{name}"
        stem.with_suffix(".msgpack").write_bytes(msgspec.msgpack.encode(message))
        stem.with_suffix(".json").write_bytes(msgspec.json.encode(message) + b"\n")
