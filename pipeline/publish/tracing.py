"""OpenTelemetry: a trace a published frame, from capture to publishing, and its context in the frame's message.

The context is W3C's ``traceparent``, so that whoever receives the message can go on with the same trace. Spans are sent
by the official SDK as OTLP over HTTP, from a thread of its own, where an address is configured; without one nothing but
the context is made, and the SDK is not needed.
"""

from __future__ import annotations

import random
from typing import Any, Protocol

import pipeline
from pipeline import clock
from pipeline.config.sections import TraceSection
from pipeline.errors import InputError
from pipeline.track.track_step import TrackedFrame

_NS = 1_000_000_000


class Tracing(Protocol):
    """What makes a frame's trace."""

    def frame(self, tracked: TrackedFrame, now: float) -> str:
        """Trace one frame that is published at ``now`` (monotonic seconds); return its ``traceparent``, or ""."""

    def close(self) -> None:
        """Send what is left. Closing twice is safe."""


def open_tracing(section: TraceSection) -> Tracing:
    """Return what the configuration asks for. Raises InputError without the SDK, where spans are to be sent."""
    if not section.enabled:
        return NoTracing()
    return ContextOnly(section.sample) if section.otlp is None else OtlpTracing(section.otlp, section.sample)


class NoTracing:
    """Messages without a trace context."""

    def frame(self, tracked: TrackedFrame, now: float) -> str:
        """Return ""."""
        return ""

    def close(self) -> None:
        """Nothing to do."""


class ContextOnly:
    """Contexts for others to go on with; no spans of ours."""

    def __init__(self, sample: float) -> None:
        self._sample = sample
        self._random = random.Random()  # seeded by the system; ids need to be different, not secret

    def frame(self, tracked: TrackedFrame, now: float) -> str:
        """Return a new context; its last byte says whether the trace is to be recorded."""
        trace_id = self._random.getrandbits(128) or 1
        span_id = self._random.getrandbits(64) or 1
        return f"00-{trace_id:032x}-{span_id:016x}-{self._random.random() < self._sample:02x}"

    def close(self) -> None:
        """Nothing to do."""


class OtlpTracing:
    """Spans of every sampled frame, sent in the background; what cannot be sent is dropped, and never waited for."""

    def __init__(self, endpoint: str, sample: float) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
            from opentelemetry.trace import set_span_in_context
        except ImportError as error:
            raise InputError(
                f"trace.otlp {endpoint}: sending spans needs OpenTelemetry's SDK: {error}. "
                'Install it: pip install "onpace[otel]"; or set trace.otlp to null.'
            ) from error
        resource = Resource.create({"service.name": "onpace", "service.version": pipeline.__version__})
        self._provider: Any = TracerProvider(sampler=TraceIdRatioBased(sample), resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, timeout=5)))
        self._tracer: Any = self._provider.get_tracer("onpace", pipeline.__version__)
        self._set_span_in_context = set_span_in_context

    def frame(self, tracked: TrackedFrame, now: float) -> str:
        """Record "frame" from capture to now, and a span for each stage in it.

        Stages are placed back to back before publishing, because only their lengths are known; "wait" is what lies
        between decode and preprocess.
        """
        inferred, frame = tracked.inferred, tracked.inferred.frame
        utc_offset = clock.utc() - now
        root = self._tracer.start_span("frame", start_time=_ns(frame.captured_at + utc_offset))
        context = root.get_span_context()
        if root.is_recording():
            root.set_attribute("onpace.stream_id", frame.stream_id)
            root.set_attribute("onpace.epoch", frame.epoch)
            root.set_attribute("onpace.frame_index", frame.index)
            root.set_attribute("onpace.capture_clock", frame.capture_clock)
            root.set_attribute("onpace.objects", len(inferred.detections))
            parent = self._set_span_in_context(root)
            decoding = frame.decoded_at - frame.decode_seconds
            self._span("decode", decoding + utc_offset, frame.decoded_at + utc_offset, parent)
            end = now
            for name, seconds in (
                ("track", tracked.seconds),
                ("postprocess", inferred.postprocess_seconds),
                ("infer", inferred.infer_seconds),
                ("preprocess", inferred.preprocess_seconds),
            ):
                self._span(name, end - seconds + utc_offset, end + utc_offset, parent)
                end -= seconds
            self._span("wait", frame.decoded_at + utc_offset, max(frame.decoded_at, end) + utc_offset, parent)
        root.end(end_time=_ns(now + utc_offset))
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags) & 1:02x}"

    def close(self) -> None:
        """Send what is left, and end the sending thread."""
        self._provider.shutdown()

    def _span(self, name: str, start_utc: float, end_utc: float, parent: Any) -> None:
        self._tracer.start_span(name, context=parent, start_time=_ns(start_utc)).end(end_time=_ns(end_utc))


def _ns(utc: float) -> int:
    return int(utc * _NS)
