"""Every metric's name, type, labels and meaning: a contract. ``docs/metrics.md`` shows the same table, and is compared.

Names end in their unit. Everything is raw: counters, gauges and histograms since the start; whoever reads can divide.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["counter", "gauge", "histogram"]


class Metric(NamedTuple):
    """One family of time series."""

    kind: Kind
    labels: tuple[str, ...]
    help: str


_STREAM = ("stream_id",)

METRICS: dict[str, Metric] = {
    "onpace_frames_received_total": Metric("counter", _STREAM, "Frames received: their packets entered decode."),
    "onpace_frames_published_total": Metric("counter", _STREAM, "Frames whose result was published."),
    "onpace_frames_dropped_total": Metric(
        "counter", ("stream_id", "stage", "reason"), "Frames given up, by the stage that did and why."
    ),
    "onpace_frames_in_flight": Metric(
        "gauge", ("stream_id", "place"), "Frames received and neither published nor dropped yet, by where they are."
    ),
    "onpace_frame_age_seconds": Metric("histogram", _STREAM, "Age of frames when published, from capture."),
    "onpace_frame_wait_seconds": Metric("histogram", _STREAM, "Time published frames spent in queues."),
    "onpace_stage_seconds": Metric("histogram", ("stage",), "Time a published frame was worked on, by stage."),
    "onpace_stage_utilisation_ratio": Metric(
        "gauge",
        ("stage", "stream_id"),
        "Share of a stage's time spent working over keepup.window, 0 to 1; stream_id is empty for stages all share.",
    ),
    "onpace_queue_frames": Metric("gauge", ("stage", "stream_id"), "Frames waiting in front of a stage."),
    "onpace_queue_capacity_frames": Metric("gauge", ("stage", "stream_id"), "Frames that may wait there."),
    "onpace_stream_verdict": Metric("gauge", ("stream_id", "verdict"), "1 for the stream's verdict, 0 for the others."),
    "onpace_stream_state": Metric("gauge", ("stream_id", "state"), "1 for the connection's state, 0 for the others."),
    "onpace_stream_capture_clock": Metric(
        "gauge", ("stream_id", "clock"), "1 for the clock that ages are counted from, 0 for the others."
    ),
    "onpace_stream_cadence_fps": Metric(
        "gauge", _STREAM, "Frames a second that the camera really delivers; NaN until it is known."
    ),
    "onpace_stream_reconnects_total": Metric("counter", _STREAM, "Connections made after the first."),
    "onpace_process_verdict": Metric("gauge", ("verdict",), "1 for the worst stream's verdict, 0 for the others."),
    "onpace_sink_messages_lost_total": Metric("counter", ("sink",), "Messages that a sink could not hand on."),
    "onpace_model_info": Metric("gauge", ("model", "runtime"), "1; the model, and what runs it."),
    "onpace_model_builds_total": Metric(
        "counter",
        ("runtime", "precision", "result"),
        "Plans, and models in another precision, that were needed: built, found, failed or cancelled.",
    ),
    "onpace_model_build_seconds_total": Metric(
        "counter", ("runtime", "precision", "result"), "Time that building them took."
    ),
    "onpace_gpu_utilisation_ratio": Metric("gauge", ("gpu",), "Share of the last moment that the GPU worked, 0 to 1."),
    "onpace_gpu_decoder_utilisation_ratio": Metric("gauge", ("gpu",), "Share that its video decoders worked, 0 to 1."),
    "onpace_gpu_memory_used_bytes": Metric("gauge", ("gpu",), "GPU memory in use, by all programs."),
    "onpace_gpu_memory_total_bytes": Metric("gauge", ("gpu",), "GPU memory there is."),
    "onpace_gpu_power_watts": Metric("gauge", ("gpu",), "Power that the GPU draws."),
    "onpace_stream_published_ratio": Metric(
        "gauge", _STREAM, "Keep-up over keepup.window: published, of the frames whose fate was decided; NaN if unknown."
    ),
    "onpace_stream_input_pixels": Metric(
        "gauge", ("stream_id", "side"), "Width and height at which the model saw the stream's last frame."
    ),
    "onpace_stream_headroom_streams": Metric(
        "gauge", _STREAM, "How many more such cameras would fit; below 0: so many too many; NaN if unknown."
    ),
    "onpace_worker_up": Metric("gauge", ("worker",), "1 while a worker process works, 0 while it is started or gone."),
    "onpace_worker_restarts_total": Metric(
        "counter", ("worker", "reason"), "Times a worker was lost and had to be started again, by what ended it."
    ),
    "onpace_worker_cpu_seconds_total": Metric("counter", ("worker",), "Processor time that a worker used."),
    "onpace_worker_resident_memory_bytes": Metric("gauge", ("worker",), "Memory that a worker holds."),
    "onpace_build_info": Metric("gauge", ("version", "python"), "1; the version of onpace, and of Python."),
}
