"""What a test camera sends, when and to whom.

A camera has one timeline for all its clients, as a real one has: two clients see the same pictures, and a client that
comes later begins at the next keyframe. The timeline stands still while nobody plays, and goes on at a keyframe.
It never skips a picture: a client that does not read holds the camera back, and gets everything late.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

from tests.helpers import rtp
from tests.helpers.numbered_clip import NAL_IDR, AccessUnit, Clip, nal_type
from tests.helpers.rtsp_session import MediaSession


class SentPicture(NamedTuple):
    """One picture, handed completely to the socket of one client."""

    index: int
    """How many pictures this camera sent before: counts on over loops, clients and clips. Same for all clients."""
    number: int
    """The number in the pixels: wraps at the clip's length, and jumps to a keyframe's when a camera wakes up."""
    session_id: str
    wall_seconds: float
    """True wall time at which the picture counts as taken, in seconds since 1970; the camera's clock may be off."""
    monotonic_seconds: float
    """When the socket had taken the last byte."""
    rtp_timestamp: int
    keyframe: bool
    damaged: bool
    lost_packets: int


@dataclass(frozen=True)
class CameraSettings:
    """How a camera is set up. ``fps`` None is the clip's own; ``frames`` None plays for ever."""

    fps: float | None = None
    frames: int | None = None
    user: str | None = None
    password: str = ""
    auth: str = "digest"
    sender_reports: bool = True
    report_interval_seconds: float = 1.0
    clock_offset_seconds: float = 0.0
    session_timeout_seconds: int = 60
    first_timestamp: int | None = None
    largest_payload: int = 1400


class Connection(Protocol):
    """What a camera knows of an RTSP connection."""

    def abort(self) -> None:
        """Drop it with RST."""

    def finish(self) -> None:
        """Close it in good order."""


@dataclass(frozen=True)
class Work:
    """What the camera's thread does next, decided under the lock and done outside it."""

    sessions: list[MediaSession]
    clip: Clip
    unit: AccessUnit | None
    index: int
    captured_at: float
    damaged: bool
    last: bool


class Pacer:
    """Sends a clip to any number of sessions at its own pace, on its own thread, and logs what it sent."""

    def __init__(self, name: str, clip: Clip, settings: CameraSettings) -> None:
        self.name = name
        self.settings = settings
        self._changed = threading.Condition()
        self._clip = clip
        self._next_clip: Clip | None = None
        self._position = 0
        self._fps = settings.fps or clip.fps
        self._due = 0.0
        self._index = 0
        self._remaining = settings.frames
        self._gone = False
        self._playing: dict[MediaSession, Connection] = {}
        self._sessions_opened = 0
        self._sent: list[SentPicture] = []
        self._payloads: dict[tuple[int, int], list[bytes]] = {}
        self._work_begun = 0
        self._work_done = 0
        self._closed = False
        self._clock_offset = settings.clock_offset_seconds
        self._sender_reports = settings.sender_reports
        self._stalled = False
        self._trickling = False
        self._hold_until = 0.0
        self._corrupt_every = 0
        self._lose_every = 0
        self._packet_count = 0
        self._thread = threading.Thread(target=self._run, name=f"camera {name}", daemon=True)
        self._thread.start()

    @property
    def clip(self) -> Clip:
        """The clip that plays now."""
        return self._clip

    @property
    def sent(self) -> list[SentPicture]:
        """Every picture handed to a client, in the order of sending; one entry per picture and client."""
        return self.sent_since(0)

    def sent_since(self, start: int) -> list[SentPicture]:
        """Return the log from its entry ``start`` on."""
        with self._changed:
            return self._sent[start:]

    def wait_for_sent(self, entries: int, within_seconds: float = 10.0) -> bool:
        """Wait until the log has this many entries. Return whether it has."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._sent) >= entries, within_seconds)

    def wait_for_playing(self, clients: int, within_seconds: float = 10.0) -> bool:
        """Wait until exactly this many clients play. Return whether they do."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._playing) == clients, within_seconds)

    def join(self, session: MediaSession, connection: Connection) -> None:
        """Begin to send to a client, with the next keyframe."""
        with self._changed:
            if not self._playing:
                self._due = max(self._due, time.monotonic())
            self._playing[session] = connection
            self._sessions_opened += 1
            self._changed.notify_all()

    def leave(self, session: MediaSession) -> None:
        """Stop sending to a client. Returns once the camera's thread no longer uses it."""
        with self._changed:
            self._playing.pop(session, None)
            self._changed.notify_all()
        self._settle()

    def close(self) -> None:
        """Stop the camera's thread. Connections are the server's to close."""
        self._set(_closed=True)
        self._thread.join(timeout=5)

    def _set(self, **fields: Any) -> None:
        with self._changed:
            for name, value in fields.items():
                setattr(self, name, value)
            self._changed.notify_all()

    def _settle(self) -> None:
        """Wait until what the thread is sending now is sent; not for ever, because a client may not read."""
        if threading.current_thread() is not self._thread:
            with self._changed:
                begun = self._work_begun
                self._changed.wait_for(lambda: self._work_done >= begun, timeout=2)

    def _run(self) -> None:
        while (work := self._wait_for_work()) is not None:
            for session in work.sessions:
                self._send(work, session)
            if work.last:
                self._finish(work.sessions)

    def _wait_for_work(self) -> Work | None:
        with self._changed:
            self._work_done = self._work_begun
            self._changed.notify_all()
            while not self._closed:
                now = time.monotonic()
                due = self._next_due()
                if due is not None and due <= now:
                    self._work_begun += 1
                    return self._report_only(now) if self._trickling else self._take_picture()
                self._changed.wait(None if due is None else due - now)
        return None

    def _next_due(self) -> float | None:
        if not self._playing or self._stalled or self._remaining == 0:
            return None
        if self._trickling:
            return min(session.next_report_at for session in self._playing) if self._sender_reports else None
        return max(self._due, self._hold_until)

    def _report_only(self, now: float) -> Work:
        return Work(list(self._playing), self._clip, None, self._index, now, damaged=False, last=False)

    def _take_picture(self) -> Work:
        """Take the next picture of the timeline and move on."""
        sessions = list(self._playing)
        if not any(session.started for session in sessions):
            self._position = self._clip.next_keyframe(self._position)
        if self._next_clip is not None and self._clip.units[self._position].keyframe:
            self._clip, self._next_clip, self._position = self._next_clip, None, 0
            self._payloads.clear()
        clip, position, index = self._clip, self._position, self._index
        unit = clip.units[position]
        lead = (position + clip.reorder_pictures - unit.number) / self._fps
        captured_at = self._due - lead
        self._position = (position + 1) % len(clip)
        self._due += 1 / self._fps
        self._index += 1
        if self._remaining is not None:
            self._remaining -= 1
        damaged = self._corrupt_every > 0 and index % self._corrupt_every == self._corrupt_every - 1
        receivers = [session for session in sessions if session.started or unit.keyframe]
        return Work(receivers, clip, unit, index, captured_at, damaged, self._remaining == 0)

    def _send(self, work: Work, session: MediaSession) -> None:
        """Send one client its report if it is time, and the picture if there is one. A client that is gone is left."""
        now = time.monotonic()
        try:
            if self._sender_reports and session.next_report_at <= now:
                at = now if session.started else work.captured_at
                session.send_report(at, wall_time(at) + self._clock_offset)
                session.next_report_at = now + self.settings.report_interval_seconds
            if work.unit is None:
                return
            session.started = True
            payloads = self._payloads_of(work.clip, work.unit, work.damaged)
            timestamp, lost = session.send_picture(payloads, work.captured_at, self._is_lost)
        except OSError:
            self.leave(session)
            return
        entry = SentPicture(
            *(work.index, work.unit.number, session.id, wall_time(work.captured_at), time.monotonic()),
            *(timestamp, work.unit.keyframe, work.damaged, lost),
        )
        with self._changed:
            self._sent.append(entry)
            self._changed.notify_all()

    def _finish(self, sessions: list[MediaSession]) -> None:
        """Say goodbye after the last picture of a limited run; whoever asks later finds nothing here."""
        with self._changed:
            self._gone = True
            self._playing.clear()
            self._changed.notify_all()
        say_goodbye(sessions)

    def _is_lost(self) -> bool:
        self._packet_count += 1
        return self._lose_every > 0 and self._packet_count % self._lose_every == 0

    def _payloads_of(self, clip: Clip, unit: AccessUnit, damaged: bool) -> list[bytes]:
        largest = self.settings.largest_payload
        if damaged:
            return rtp.picture_payloads(clip, replace(unit, nals=tuple(map(damage, unit.nals))), largest)
        key = (id(clip), unit.number)
        if key not in self._payloads:
            self._payloads[key] = rtp.picture_payloads(clip, unit, largest)
        return self._payloads[key]


def say_goodbye(sessions: Iterable[MediaSession]) -> None:
    """End streams by RTCP BYE, once each client has read what was sent before."""
    for session in sessions:
        with contextlib.suppress(OSError):
            session.transport.wait_until_read(within_seconds=5)
            session.send_bye()


def damage(nal: bytes) -> bytes:
    """Return a slice with every 16th byte flipped, its header spared; other NAL units as they are."""
    if nal_type(nal) > NAL_IDR:
        return nal
    damaged = bytearray(nal)
    damaged[12::16] = bytes(value ^ 0x5A for value in damaged[12::16])
    return bytes(damaged)


def wall_time(monotonic: float) -> float:
    """Return the wall time, in seconds since 1970, of a monotonic time."""
    return time.time() - (time.monotonic() - monotonic)
