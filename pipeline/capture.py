"""One connection of one stream: source -> decode -> queue."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from engines.nvtx import profiled_range
from pipeline.before_decode import BeforeDecode
from pipeline.bounded_queue import BoundedQueue
from pipeline.clock import monotonic
from pipeline.decode.decoder import CorruptPacketError, Decoder, Picture
from pipeline.errors import Cause, SourceError
from pipeline.frame import Frame, Packet, StreamInfo, size_of
from pipeline.infer.outlook import Outlook
from pipeline.keepup.load import BusyClock
from pipeline.keepup.meter import StreamMeter
from pipeline.keepup.picture_watch import PictureWatch, sample_of
from pipeline.source.source import Source
from pipeline.thinning import Thinning
from pipeline.timeline.timeline import Track

_SMALLEST_STEP_SECONDS = 0.001
# Pictures out of order differ by a few frames; a clock that is further back has begun again.
_LONGEST_REORDER_SECONDS = 2.0
# Pictures of a file that are decoded this quickly go into the queue a few at a time: each waking of a slot costs.
_QUICK_SECONDS = 0.001
_LARGEST_LOT = 4


@dataclass(frozen=True, slots=True)
class CaptureLimits:
    """What a stream's pictures must keep to."""

    max_pixels: int
    stall_seconds: float
    """Longest time without a decoded picture on a live stream, whatever else arrives."""


@dataclass(frozen=True, slots=True)
class StreamContext:
    """What stays the same over all connections of one stream."""

    stream_id: str
    queue: BoundedQueue[Frame]
    meter: StreamMeter
    busy: BusyClock
    """The stream's share of decode's work."""
    limits: CaptureLimits
    thinning: Thinning = field(default_factory=Thinning)
    """What of the stream goes on at all."""
    outlook: Outlook = field(default_factory=Outlook)
    """What will be taken of its queue."""
    track: Track | None = None
    """Where the timeline shows the decoder's work, if there is one."""
    stopping: threading.Event = field(default_factory=threading.Event)
    frame_indices: Iterator[int] = field(default_factory=itertools.count)
    """Counts the stream's frames over all epochs."""


class Capture:
    """Plays one opened source through its decoder into the stream's queue, and accounts for every picture.

    Passive: ``play`` runs in the caller's thread, never retries, and always leaves the ledger without frames in
    ``decode``.
    """

    def __init__(
        self,
        context: StreamContext,
        epoch: int,
        info: StreamInfo,
        source: Source,
        decoder: Decoder,
        on_first_picture: Callable[[], None],
    ) -> None:
        self._context = context
        self._meter = context.meter
        self._stopping = context.stopping
        self._epoch = epoch
        self._info = info
        self._source = source
        self._decoder = decoder
        self._on_first_picture = on_first_picture
        self._watch = PictureWatch() if info.live else None
        self._before = BeforeDecode(info, context.queue, context.thinning, context.outlook, self._watch)
        self._decoding = False  # the last packet that was decoded made a picture
        context.thinning.begin()
        self._lot: list[Frame] = []  # on their way into the queue
        self._held = 0  # packets inside the decoder that have not come out as pictures
        self._begun = False
        self._offset: float | None = None  # from the container's clock to ours
        self._last_pts = -_SMALLEST_STEP_SECONDS
        self._step_seconds = 1 / info.declared_fps if info.declared_fps else 0.04
        self.pictures = 0

    def play(self) -> None:
        """Read until the source ends, fails (SourceError) or ``stopping`` is set."""
        try:
            last_picture_at = monotonic()
            while not self._stopping.is_set():
                try:
                    packet = self._source.read()
                except SourceError:
                    if not self._info.live:  # a camera's last pictures are late by the time that its loss is noticed
                        self._emit(self._decoder.drain(), 0.0)
                    raise
                if packet is None:
                    self._emit(self._decoder.drain(), 0.0)
                    return
                delivers = self._take(packet)
                now = monotonic()
                if delivers:
                    last_picture_at = now
                elif (
                    self._info.live
                    and packet.capture_clock != "file"  # a file's packets may be far apart
                    and now - last_picture_at > self._context.limits.stall_seconds
                ):
                    raise SourceError(
                        f"packets arrive, but no picture could be decoded for {now - last_picture_at:.1f} s",
                        cause=Cause.CORRUPT,
                    )
        finally:
            self._hand_on()
            if self._held:
                reason = "stopped" if self._stopping.is_set() else "no_picture"
                self._meter.dropped("decode", "decode", reason, monotonic(), self._held)
                for _ in range(self._held):
                    next(self._context.frame_indices)
                self._held = 0

    def _take(self, packet: Packet) -> bool:
        """Account for one packet, and decode it if it must be; return whether the stream delivers pictures."""
        self._meter.arrived(packet.received_at)
        reason = self._before.leave_out(packet, decoding=self._decoding)
        if reason:
            next(self._context.frame_indices)
            self._meter.dropped("decode", "decode", reason, monotonic())
            return True
        self._decoding = self._decode(packet)
        return self._decoding

    def _decode(self, packet: Packet) -> bool:
        """Decode one packet and queue its pictures; return whether there were any."""
        self._held += 1
        started = monotonic()
        try:
            with profiled_range("decode"):
                pictures = self._decoder.decode(packet)
        except CorruptPacketError:
            self._held -= 1
            next(self._context.frame_indices)
            self._meter.dropped("decode", "decode", "corrupt", monotonic())
            return False
        ended = monotonic()
        self._context.busy.add(started, ended)
        self._emit(pictures, ended - started)
        return bool(pictures)

    def _emit(self, pictures: list[Picture], seconds: float) -> None:
        now = monotonic()
        for picture in pictures:
            if not self._held:  # a packet that held two pictures: the second one was received too
                self._meter.arrived(picture.packet.received_at)
                self._held += 1
            self._check_size(picture)
            frame = self._frame(picture, now, seconds / len(pictures))
            if self._context.track is not None:
                self._context.track.span("decode", now - frame.decode_seconds, now, (frame,), "s")
            if not self.pictures:
                self._on_first_picture()
            self.pictures += 1
            if self._watch is not None:
                self._look(self._watch, picture, now)
            self._held -= 1
            self._meter.ledger.move("decode", "queue")
            reason = self._context.thinning.leave_out(frame.captured_at)
            if reason:
                self._meter.dropped("queue", "decode", reason, now)
                continue
            self._lot.append(frame)
        if self._info.live or seconds > _QUICK_SECONDS or len(self._lot) >= _LARGEST_LOT:
            self._hand_on()

    def _hand_on(self) -> None:
        lot, self._lot = self._lot, []
        for frame in lot:
            for evicted in self._context.queue.put(frame, self._stopping):
                reason = "stopped" if evicted is frame else "queue_full"
                self._meter.dropped("queue", "decode", reason, monotonic())

    def _look(self, watch: PictureWatch, picture: Picture, now: float) -> None:
        keyframe = getattr(picture.packet.payload, "is_keyframe", True)  # what is no coded packet depends on no other
        if not watch.wants(now, keyframe=keyframe):
            return
        sample = sample_of(picture.planes)
        if watch.look(sample, now, keyframe=keyframe, full_range=picture.colour.full_range):
            self._meter.pictured(watch.state, now)

    def _frame(self, picture: Picture, now: float, decode_seconds: float) -> Frame:
        packet = picture.packet
        return Frame(
            stream_id=self._context.stream_id,
            epoch=self._epoch,
            index=next(self._context.frame_indices),
            planes=picture.planes,
            colour=picture.colour,
            rotation=picture.rotation,
            pts_seconds=self._advance(picture.pts_seconds),
            received_at=packet.received_at,
            captured_at=packet.captured_at,
            capture_utc=packet.capture_utc,
            capture_clock=packet.capture_clock,
            decoded_at=now,
            decode_seconds=decode_seconds,
            damaged=picture.damaged,
            owner=picture.owner,
        )

    def _advance(self, pts_seconds: float | None) -> float:
        """Return a presentation time that starts at 0 and only ever grows, whatever the container says.

        Where its clock begins again (a restarted encoder, files joined end to end), ours goes on by one step.
        """
        next_pts = self._last_pts + self._step_seconds if self._begun else 0.0
        self._begun = True
        if pts_seconds is None:
            self._last_pts = max(next_pts, self._last_pts + _SMALLEST_STEP_SECONDS)
            return self._last_pts
        if self._offset is None or pts_seconds + self._offset < self._last_pts - _LONGEST_REORDER_SECONDS:
            self._offset = next_pts - pts_seconds
        self._last_pts = max(pts_seconds + self._offset, self._last_pts + _SMALLEST_STEP_SECONDS)
        return self._last_pts

    def _check_size(self, picture: Picture) -> None:
        width, height = size_of(picture.planes)
        if width * height > self._context.limits.max_pixels:
            raise SourceError(
                f"pictures of {width}x{height} have more pixels than decode.max_pixels allows "
                f"({self._context.limits.max_pixels}). Raise it, or choose a smaller stream of the camera.",
                cause=Cause.UNSUPPORTED,
            )
