"""The streams of one pipeline, which come and go while it runs.

Whoever needs to know a stream looks here or is told here: the batcher has its queue, the track step its tracker, the
publish step its outlet, the metrics its times. A stream that was removed stays until its last frame has left.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.config.sections import MOST_STREAMS, Config, StreamSection
from pipeline.decode.nvdec import Nvdec
from pipeline.errors import StageError, StreamError
from pipeline.infer.batcher import Batcher
from pipeline.infer.outlook import Outlook
from pipeline.keepup.ledger import LedgerSnapshot
from pipeline.keepup.load import BusyClock
from pipeline.keepup.meter import StreamMeter
from pipeline.keepup.settings import KeepupSettings
from pipeline.metrics.frame_times import FrameTimes
from pipeline.part import Past
from pipeline.plan import StreamPlan, plan_stream
from pipeline.publish.publish_step import Outlet
from pipeline.supervisor import History, StreamSupervisor
from pipeline.timeline.timeline import Timeline
from pipeline.track.track_step import TrackStep

_log = logging.getLogger("onpace.pipeline")


@dataclass(frozen=True, slots=True)
class _Entry:
    stream: StreamSupervisor
    outlet: Outlet
    leaving: bool = False
    gone: threading.Event = field(default_factory=threading.Event)


class Removed(NamedTuple):
    """What a removed stream amounted to."""

    gone: bool
    """Whether its last frame has left; if not, it goes by itself."""
    ledger: LedgerSnapshot


class Streams(Mapping[str, StreamSupervisor]):
    """Stream id -> its supervisor, in the order in which they were added. Thread-safe: any may look, any may change."""

    def __init__(
        self,
        config: Config,
        batcher: Batcher,
        track: TrackStep,
        times: FrameTimes,
        nvdec: Nvdec | None = None,
        *,
        input_size: tuple[int, int] | None = None,
        may_shrink: bool = False,
        on_failure: Callable[[BaseException], None],
        timeline: Timeline | None = None,
    ) -> None:
        """``input_size``: the model's. ``may_shrink``: there are smaller ones for streams that adapt by resolution."""
        self._input_size = input_size
        self._may_shrink = may_shrink
        self._config = config
        self._batcher = batcher
        self._track = track
        self._times = times
        self._nvdec = nvdec
        self._on_failure = on_failure
        self._timeline = timeline
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        """Replaced, never changed: who looks needs no lock, and what it looks at stays as it is."""
        self._histories: dict[str, History] = {}
        self._started = self._stopping = False

    def __getitem__(self, stream_id: str) -> StreamSupervisor:
        return self._entries[stream_id].stream

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def start(self) -> None:
        """Let all play, and those that are added later at once."""
        with self._lock:
            self._started = True
            for stream in reversed(self.values_now()):
                stream.start()

    def stop(self) -> None:
        """Ask every stream to end; none can be added any more."""
        with self._lock:
            self._stopping = True
            for stream in self.values_now():
                stream.stop()

    def values_now(self) -> list[StreamSupervisor]:
        """Return those that are there now."""
        return [entry.stream for entry in self._entries.values()]

    def waiting(self) -> dict[str, dict[str, float]]:
        """Return how many frames wait in each stream's queue, and how many are in flight at each stage."""
        streams = self.values_now()
        in_flight: Counter[str] = Counter()
        for stream in streams:
            in_flight.update(stream.meter.ledger.snapshot().in_flight)
        return {
            "frames queued": {stream.plan.stream_id: len(stream.queue) for stream in streams},
            "frames in flight": dict(in_flight),
        }

    def all_live(self) -> bool:
        """Whether every stream that may still bring frames is live: none of them can wait."""
        return all(entry.stream.meter.live or entry.stream.queue.closed for entry in self._entries.values())

    def add(self, section: StreamSection, past: Past | None = None) -> None:
        """Take in one more stream, which goes on from its ``past``.

        Raises StreamError for a name that is taken, and UrlError.
        """
        plan = plan_stream(section, self._config)
        with self._lock:
            known = self._entries.get(plan.stream_id)
            if known is not None:
                remedy = "Wait until its last frame has left." if known.leaving else "Give it another name."
                raise StreamError(f"id '{plan.stream_id}': there is such a stream already. {remedy}")
            if self._stopping:
                raise StreamError("the pipeline is ending, and takes no further stream.")
            if plan.shrinks and not self._may_shrink:
                raise StreamError(
                    "adapt: resolution: no smaller inputs were opened at the start. Name them in infer.smaller, or set "
                    "overload.adapt: resolution, and start again; or add the stream with adapt: stride."
                )
            if len(self._entries) >= MOST_STREAMS:
                raise StreamError(f"there are {MOST_STREAMS} streams already, and no more are allowed.")
            if past is not None:
                self._histories[plan.stream_id] = History(past.epoch, itertools.count(past.frames))
            self._open(plan)

    def section(self, stream_id: str) -> StreamSection:
        """Return how a stream was configured, with what was changed since."""
        return self._entry(stream_id).stream.plan.section

    def change(self, stream_id: str, section: StreamSection) -> None:
        """Let a stream have the terms (rate, deadline, weight, threshold) of ``section``; nothing else is looked at."""
        plan = plan_stream(section, self._config)
        with self._lock:
            entry = self._entry(stream_id)
            stream = entry.stream
            stream.plan = plan
            stream.thinning.max_fps, stream.thinning.every = plan.max_fps, plan.every
            stream.meter.judge_by(self._settings(plan))
            self._batcher.change_terms(stream.queue, plan.terms)
            self._track.change_threshold(stream_id, plan.score_threshold)
            outlet = Outlet(stream.meter, plan.terms.deadline)
            self._entries = {**self._entries, stream_id: _Entry(stream, outlet, entry.leaving, entry.gone)}

    def pause(self, stream_id: str) -> None:
        """Let a stream leave its source until it is resumed. Raises StreamError where it has ended."""
        self._playing(stream_id).pause()

    def resume(self, stream_id: str) -> None:
        """End a pause: the source is opened anew, in a new epoch."""
        self._playing(stream_id).resume()

    def restart(self, stream_id: str) -> None:
        """Leave the source and open it anew, in a new epoch."""
        self._playing(stream_id).restart()

    def remove(self, stream_id: str, wait_seconds: float = 0.0) -> Removed:
        """Ask a stream to end and to go once its last frame has left; wait so long for that."""
        with self._lock:
            entry = self._entry(stream_id)
            self._entries = {**self._entries, stream_id: _Entry(entry.stream, entry.outlet, True, entry.gone)}
            entry.stream.stop()
        gone = entry.gone.wait(wait_seconds)
        return Removed(gone, entry.stream.meter.ledger.snapshot())

    def failed(self) -> list[str]:
        """Return the streams that were given up."""
        return [stream.plan.stream_id for stream in self.values_now() if stream.failed]

    def outlet(self, stream_id: str) -> Outlet:
        """Return what a stream's results pass on their way out."""
        return self._entries[stream_id].outlet

    def departing(self) -> list[str]:
        """Return the removed streams whose last frame has left: they can be forgotten."""
        return [stream_id for stream_id, entry in self._entries.items() if entry.leaving and _is_empty(entry.stream)]

    def forget(self, stream_id: str) -> None:
        """Let a stream go that is among the ``departing``."""
        with self._lock:
            entry = self._entries[stream_id]
            self._entries = {name: other for name, other in self._entries.items() if name != stream_id}
            self._batcher.remove_stream(entry.stream.queue)
            self._track.forget(stream_id)
            self._times.forget(stream_id)
        counts = entry.stream.meter.ledger.snapshot()
        _log.info(
            "stream %s is gone: received %d, published %d, dropped %d",
            stream_id,
            counts.received,
            counts.published,
            counts.dropped_total,
        )
        entry.gone.set()

    def _open(self, plan: StreamPlan) -> None:
        outlook = Outlook()
        try:
            queue = self._batcher.add_stream(plan.queue_frames, plan.policy, plan.terms, outlook)
        except StageError as error:
            raise StreamError(f"{error}.") from None
        meter = StreamMeter(plan.stream_id, self._settings(plan), live=plan.live)
        stream = StreamSupervisor(
            plan,
            queue,
            meter,
            BusyClock(self._config.keepup.window),
            on_failure=self._on_failure,
            history=self._histories.setdefault(plan.stream_id, History()),
            outlook=outlook,
            nvdec=self._nvdec,
            track=self._timeline.track(f"decode {plan.stream_id}") if self._timeline is not None else None,
        )
        self._track.add(plan.stream_id, plan.tracker, plan.score_threshold, self._config.track.new_track_score)
        self._times.add(plan.stream_id)
        entry = _Entry(stream, Outlet(meter, plan.terms.deadline))
        self._entries = {**self._entries, plan.stream_id: entry}
        if self._started:
            stream.start()

    def _entry(self, stream_id: str) -> _Entry:
        entry = self._entries.get(stream_id)
        if entry is None:
            raise StreamError.unknown(stream_id, self._entries)
        return entry

    def _playing(self, stream_id: str) -> StreamSupervisor:
        stream = self._entry(stream_id).stream
        if self._started and stream.join(0):
            raise StreamError(f"stream '{stream_id}' has ended. To play it again, remove it and add it anew.")
        return stream

    def _settings(self, plan: StreamPlan) -> KeepupSettings:
        deadline, every = plan.terms.deadline, plan.settled.every or 1
        return KeepupSettings.from_section(
            self._config.keepup, deadline.seconds if deadline else None, every, self._input_size
        )


def _is_empty(stream: StreamSupervisor) -> bool:
    return stream.join(0) and not stream.meter.ledger.snapshot().in_flight_total
