"""Makes Prometheus' families out of what the pipeline counts, when somebody scrapes and not before."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

import pipeline
from engines.builds import Builds
from pipeline.frame import CaptureClock
from pipeline.keepup.connection import State
from pipeline.keepup.status import StreamStatus, process_status
from pipeline.metrics.buckets import Buckets
from pipeline.metrics.gpu_figures import GpuFigures
from pipeline.metrics.names import METRICS
from pipeline.metrics.watched import Watched, WorkerFacts
from pipeline.publish.messages import Verdict

Rows = Iterable[tuple[Sequence[str], float]]
"""Label values and the value."""

_VERDICTS: tuple[str, ...] = get_args(Verdict)
_STATES: tuple[str, ...] = get_args(State)
_CLOCKS: tuple[str, ...] = get_args(CaptureClock)


class PipelineCollector(Collector):
    """One pipeline's metrics. Until ``watched`` returns one there is only what is known of versions and builds."""

    def __init__(
        self,
        watched: Callable[[], Watched | None],
        builds: Builds | None = None,
        gpus: GpuFigures | None = None,
        workers: Callable[[], Sequence[WorkerFacts]] = tuple,
    ) -> None:
        self._builds = builds or Builds()
        self._watched = watched
        self._workers = workers
        self._gpus = gpus or GpuFigures()

    def collect(self) -> Iterator[Family]:
        """Yield every family of ``METRICS``."""
        yield _family("onpace_build_info", [((pipeline.__version__, platform.python_version()), 1)])
        yield from _builds(self._builds)
        watched = self._watched()
        if watched is None:
            return
        streams = watched.status()
        yield from _counts(streams)
        yield from _times(watched)
        yield from _loads(streams)
        yield from _states(streams)
        yield _family("onpace_sink_messages_lost_total", (((sink,), n) for sink, n in watched.sinks_lost().items()))
        yield _family("onpace_model_info", [(watched.model_and_runtime, 1)])
        yield from self._gpu_families()
        if workers := self._workers():
            yield from _worker_families(workers)

    def _gpu_families(self) -> Iterator[Family]:
        by_metric: dict[str, list[tuple[Sequence[str], float]]] = {}
        for metric, gpu, value in self._gpus.read():
            by_metric.setdefault(metric, []).append(((gpu,), value))
        for metric, rows in by_metric.items():
            yield _family(metric, rows)

    def describe(self) -> list[Family]:
        """Return nothing: the families are known only with a pipeline, and the registry is ours alone."""
        return []


def _builds(builds: Builds) -> Iterator[Family]:
    counts = builds.counts()
    kinds = [(one.runtime, one.precision, one.result) for one in counts]
    yield _family("onpace_model_builds_total", zip(kinds, (one.builds for one in counts), strict=True))
    yield _family("onpace_model_build_seconds_total", zip(kinds, (one.seconds for one in counts), strict=True))


def _counts(streams: Sequence[StreamStatus]) -> Iterator[Family]:
    yield _family("onpace_frames_received_total", (((s.stream_id,), s.ledger.received) for s in streams))
    yield _family("onpace_frames_published_total", (((s.stream_id,), s.ledger.published) for s in streams))
    yield _family(
        "onpace_frames_dropped_total",
        (
            ((s.stream_id, stage, reason), count)
            for s in streams
            for stage, reasons in s.ledger.dropped.items()
            for reason, count in reasons.items()
        ),
    )
    yield _family(
        "onpace_frames_in_flight",
        (((s.stream_id, place), count) for s in streams for place, count in s.ledger.in_flight.items()),
    )


def _times(watched: Watched) -> Iterator[Family]:
    times = watched.times
    yield _histogram("onpace_frame_age_seconds", times.ages)
    yield _histogram("onpace_frame_wait_seconds", times.waits)
    yield _histogram("onpace_stage_seconds", times.stages)


def _loads(streams: Sequence[StreamStatus]) -> Iterator[Family]:
    busy: dict[tuple[str, str], float] = {}
    queued: dict[tuple[str, str], float] = {}
    capacity: dict[tuple[str, str], float] = {}
    for stream in streams:
        for load in stream.loads:
            # Only decode is a stream's own; the other stages work for all, and their load is told once.
            busy[load.stage, stream.stream_id if load.stage == "decode" else ""] = load.utilisation
            if load.queue_capacity:
                queued[load.stage, stream.stream_id] = load.queue_frames
                capacity[load.stage, stream.stream_id] = load.queue_capacity
    yield _family("onpace_stage_utilisation_ratio", busy.items())
    yield _family("onpace_queue_frames", queued.items())
    yield _family("onpace_queue_capacity_frames", capacity.items())


def _states(streams: Sequence[StreamStatus]) -> Iterator[Family]:
    yield _family("onpace_stream_verdict", _state_set(_VERDICTS, ((s.stream_id, s.verdict) for s in streams)))
    yield _family("onpace_stream_state", _state_set(_STATES, ((s.stream_id, s.state) for s in streams)))
    yield _family("onpace_stream_capture_clock", _state_set(_CLOCKS, ((s.stream_id, s.capture_clock) for s in streams)))
    unknown = float("nan")
    yield _family(
        "onpace_stream_cadence_fps",
        (((s.stream_id,), unknown if s.cadence_fps is None else s.cadence_fps) for s in streams),
    )
    yield _family(
        "onpace_stream_published_ratio",
        (((s.stream_id,), unknown if s.published_share is None else s.published_share) for s in streams),
    )
    yield _family(
        "onpace_stream_headroom_streams",
        (((s.stream_id,), unknown if s.headroom_streams is None else s.headroom_streams) for s in streams),
    )
    yield _family(
        "onpace_stream_input_pixels",
        (
            ((s.stream_id, side), pixels)
            for s in streams
            if s.input_size
            for side, pixels in zip(("width", "height"), s.input_size, strict=True)
        ),
    )
    yield _family("onpace_stream_reconnects_total", (((s.stream_id,), s.reconnects) for s in streams))
    worst = process_status(streams).verdict
    yield _family("onpace_process_verdict", (((verdict,), verdict == worst) for verdict in _VERDICTS))


def _worker_families(workers: Sequence[WorkerFacts]) -> Iterator[Family]:
    yield _family("onpace_worker_up", (((str(one.number),), one.up) for one in workers))
    yield _family(
        "onpace_worker_restarts_total",
        (((str(one.number), reason), times) for one in workers for reason, times in one.restarts.items()),
    )
    yield _family("onpace_worker_cpu_seconds_total", (((str(one.number),), one.cpu_seconds) for one in workers))
    yield _family("onpace_worker_resident_memory_bytes", (((str(one.number),), one.resident_bytes) for one in workers))


def _state_set(known: Sequence[str], shown: Iterable[tuple[str, str | None]]) -> Rows:
    return (((stream_id, state), state == now) for stream_id, now in shown for state in known)


def _family(name: str, rows: Rows) -> Family:
    metric = METRICS[name]
    family = (CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily)(
        name, metric.help, labels=metric.labels
    )
    for labels, value in rows:
        family.add_metric(labels, float(value))
    return family


def _histogram(name: str, rows: dict[str, Buckets]) -> Family:
    metric = METRICS[name]
    family = HistogramMetricFamily(name, metric.help, labels=metric.labels)
    for label, buckets in rows.items():
        family.add_metric([label], buckets.cumulative(), sum_value=buckets.total)
    return family
