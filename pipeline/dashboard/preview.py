"""Small pictures of the streams that somebody looks at, each with the message that was published for its frame.

Every published frame passes ``offer``. While nobody looks that is one look into an empty dictionary. While somebody
does, a watched stream's frame is kept a few times a second, and a thread of the preview's own makes a JPEG of it, once
for all who look at that size, as fast as ``Allowance`` lets it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Protocol

import msgspec

from pipeline.clock import monotonic
from pipeline.dashboard.allowance import Allowance
from pipeline.dashboard.shrink import shrink
from pipeline.frame import Frame
from pipeline.publish.messages import DetectionsMessage

WIDTHS = (160, 320, 640, 1280)
"""Sizes that pictures are made in, so that viewers share them."""
_TIGHT_WIDTHS = ((2, 640), (16, 320))
"""Pictures looked at, and their largest size while the pipeline needs the machine for itself; more get the smallest."""
_PICTURES_PER_SECOND = 40.0
"""Of one viewer, over all the streams it looks at."""
_LEAST_FPS = 1.0
_MOST_HELD = 4
"""Frames that may wait for their turn. Each keeps a decoder's buffer, 3 MB at 1920x1080."""

_LOOK_SECONDS = (0.05, 0.25)
"""Between two looks of a viewer, with room and without. Sending costs more than making: few sends are cheap ones."""

_log = logging.getLogger("onpace.dashboard")


@dataclass(frozen=True, slots=True)
class Picture:
    """One frame to look at."""

    stream_id: str
    message: bytes
    """The frame's detections message, as JSON."""
    jpeg: bytes


class Viewer:
    """One who looks: gets the latest picture of each stream; what it has not fetched by then is replaced."""

    def __init__(self, width: int, fps: float) -> None:
        self.width = width
        self.fps = fps
        self._lock = threading.Lock()
        self._pictures: dict[str, Picture] = {}

    def put(self, picture: Picture) -> None:
        """Leave a picture."""
        with self._lock:
            self._pictures[picture.stream_id] = picture

    def take(self) -> list[Picture]:
        """Return what came since the last call."""
        with self._lock:
            pictures = list(self._pictures.values())
            self._pictures.clear()
        return pictures


class Pictured(Protocol):
    """Where a viewer gets pictures from."""

    look_seconds: float
    """Between two looks."""

    def watch(self, stream_ids: Iterable[str], width: int) -> AbstractContextManager[Viewer]:
        """Look at these streams about ``width`` pixels wide."""


@dataclass(slots=True, eq=False)
class _Tap:
    """One size of one stream that somebody looks at."""

    stream_id: str
    width: int
    viewers: tuple[Viewer, ...] = ()
    due: float = 0.0
    """Monotonic seconds from when the next frame is wanted; infinite while one waits to be made small."""
    held: tuple[Frame, DetectionsMessage] | None = field(default=None, repr=False)

    @property
    def interval_seconds(self) -> float:
        """Between two pictures, as the keenest viewer wants it."""
        return 1.0 / max(viewer.fps for viewer in self.viewers)


class Preview:
    """Makes the pictures. Thread-safe."""

    def __init__(self, *, cores: int, most_fps: float = 10.0) -> None:
        """``most_fps``: of one stream; 0 shows no pictures at all."""
        self._most_fps = most_fps
        self._cores = cores
        self._taps: dict[str, tuple[_Tap, ...]] = {}
        """Replaced, never changed: ``offer`` reads it without a lock."""
        self._lock = threading.Lock()
        self._held: SimpleQueue[_Tap | None] = SimpleQueue()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._server_thread: int | None = None
        self.look_seconds = _LOOK_SECONDS[1]
        """Between two looks of a viewer: nothing wakes it, so that what it gets comes together."""

    def offer(self, frame: Frame, message: DetectionsMessage) -> None:
        """Take note of a published frame. Never waits; called by the thread that publishes."""
        taps = self._taps.get(frame.stream_id)
        if taps is not None:
            now = monotonic()
            for tap in taps:
                if now >= tap.due and self._held.qsize() < _MOST_HELD:
                    tap.due = float("inf")
                    tap.held = (frame, message)
                    self._held.put(tap)

    @contextmanager
    def watch(self, stream_ids: Iterable[str], width: int, *, of: int = 0) -> Iterator[Viewer]:
        """Look at these streams about ``width`` pixels wide; ``of`` so many that are looked at, others' included.

        The thread that enters counts its processor time as the live view's.
        """
        wanted = tuple(dict.fromkeys(stream_ids))
        fps = min(self._most_fps, max(_LEAST_FPS, _PICTURES_PER_SECOND / max(1, len(wanted), of)))
        size = next((size for size in WIDTHS if size >= width), WIDTHS[-1])
        viewer = Viewer(size, fps)
        self._server_thread = threading.get_ident()
        if fps > 0:
            self._change(viewer, wanted, joins=True)
        try:
            yield viewer
        finally:
            self._change(viewer, wanted, joins=False)

    def close(self) -> None:
        """End the thread. Closing twice is safe."""
        self._closed.set()
        self._held.put(None)
        if self._thread is not None:
            self._thread.join(5.0)

    def _change(self, viewer: Viewer, stream_ids: tuple[str, ...], *, joins: bool) -> None:
        with self._lock:
            taps = dict(self._taps)
            for stream_id in stream_ids:
                of_stream = {tap.width: tap for tap in taps.get(stream_id, ())}
                tap = of_stream.setdefault(viewer.width, _Tap(stream_id, viewer.width))
                others = tuple(other for other in tap.viewers if other is not viewer)
                tap.viewers = (*others, viewer) if joins else others
                left = tuple(tap for tap in of_stream.values() if tap.viewers)
                if left:
                    taps[stream_id] = left
                else:
                    taps.pop(stream_id, None)
            self._taps = taps
            if joins and self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(target=self._work, name="preview", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        allowance = Allowance(self._cores)
        counted: int | None = None
        while (tap := self._held.get()) is not None:
            if counted != self._server_thread and self._server_thread is not None:
                counted = self._server_thread
                allowance.also_count(counted)
            try:
                self._make(tap, tight=allowance.tight)
                self.look_seconds = _LOOK_SECONDS[allowance.tight]
            except Exception:  # a picture to look at is not worth a pipeline
                _log.exception("stream %s: no preview", tap.stream_id)
            rest = allowance.rest_seconds()
            # Streams that had their turn come after those that had none, however long one round takes.
            tap.due = monotonic() + max(self._interval(tap), 0.9 * rest * self._watched())
            self._closed.wait(rest)

    def _make(self, tap: _Tap, *, tight: bool) -> None:
        held, tap.held = tap.held, None
        viewers = tap.viewers
        if held is None or not viewers:
            return
        frame, message = held
        jpeg = shrink(frame, min(tap.width, self._tight_width()) if tight else tap.width)
        picture = Picture(tap.stream_id, msgspec.json.encode(message), jpeg)
        for viewer in viewers:
            viewer.put(picture)

    def _interval(self, tap: _Tap) -> float:
        return tap.interval_seconds if tap.viewers else 0.0

    def _tight_width(self) -> int:
        watched = self._watched()
        return next((width for most, width in _TIGHT_WIDTHS if watched <= most), WIDTHS[0])

    def _watched(self) -> int:
        return sum(len(taps) for taps in self._taps.values())
