"""One camera of the test server: the faults it shows, on top of the pictures it sends (`rtsp_pacer`)."""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict, dataclass
from typing import Protocol

from tests.helpers.numbered_clip import Clip
from tests.helpers.rtsp_auth import Authenticator
from tests.helpers.rtsp_pacer import CameraSettings, Connection, Pacer, say_goodbye


@dataclass
class Counters:
    """What a camera's clients did since it was added."""

    requests: int = 0
    describes: int = 0
    teardowns: int = 0
    keepalives: int = 0
    authorised_requests: int = 0
    """Requests that carried an Authorization header, right or wrong: each one is a try at the password."""


class Doorway(Protocol):
    """What a camera knows of the port it is reached by."""

    port: int

    def refuse(self) -> None:
        """Make new connections fail with "connection refused"."""

    def accept(self) -> None:
        """Take connections again."""

    def restart(self, after_seconds: float) -> None:
        """Cut every connection, refuse for a while, then accept."""


class Camera(Pacer):
    """A scriptable camera. Every method may be called from any thread while it plays. Made by `RtspServer.add_camera`.

    Faults stay until `heal`, or until their own opposite: `stall` and `trickle` end with `resume`, the answers
    (`status`, `not_found`, `unauthorised`, `silence`) with `answer`, `refuse` with `accept`.
    """

    def __init__(self, name: str, clip: Clip, settings: CameraSettings, doorway: Doorway) -> None:
        self.counters = Counters()
        self.authenticator = (
            Authenticator(settings.user, settings.password, settings.auth) if settings.user is not None else None
        )
        self._doorway = doorway
        self._connections: set[Connection] = set()
        self._status: int | None = None
        self._status_methods: tuple[str, ...] = ()
        self._silent = False
        super().__init__(name, clip, settings)

    # What a test reads

    @property
    def url(self) -> str:
        """The address, with user and password if the camera asks for them."""
        user = f"{self.settings.user}:{self.settings.password}@" if self.settings.user is not None else ""
        return f"rtsp://{user}127.0.0.1:{self._doorway.port}/{self.name}"

    def counts(self) -> dict[str, int]:
        """Return the `Counters` as a dict, with ``sessions_opened`` so far and the sessions ``playing`` now."""
        with self._changed:
            return asdict(self.counters) | {"sessions_opened": self._sessions_opened, "playing": len(self._playing)}

    def wait_for_count(self, name: str, at_least: int, within_seconds: float = 10.0) -> bool:
        """Wait until one of the `counts` is this high. Return whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self.counts()[name] >= at_least, within_seconds)

    # Faults of the media

    def stall(self) -> None:
        """Send nothing, neither pictures nor RTCP; connections stay up. Returns when nothing more is being sent."""
        self._set(_stalled=True, _trickling=False)
        self._settle()

    def trickle(self) -> None:
        """Send no pictures, but go on with RTCP sender reports and with answers to requests."""
        self._set(_stalled=False, _trickling=True)
        self._settle()

    def resume(self) -> None:
        """Go on with the picture after the last one sent. Timestamps jump by the time that passed."""
        self._set(_stalled=False, _trickling=False, _due=time.monotonic())

    def burst(self, seconds: float) -> None:
        """Once: hold the pictures of so many seconds back, then send them all at once, timestamps regular."""
        self._set(_hold_until=time.monotonic() + seconds)

    def set_fps(self, fps: float) -> None:
        """Take pictures at another rate from the next picture on. What the SPS says does not change."""
        if fps <= 0:
            raise ValueError(f"fps must be more than 0, got {fps}")
        self._set(_fps=fps)

    def set_clock(self, offset_seconds: float = 0.0, sender_reports: bool = True) -> None:
        """Put the camera's clock so many seconds ahead of the true one, and switch sender reports on or off."""
        self._set(_clock_offset=offset_seconds, _sender_reports=sender_reports)
        with self._changed:
            for session in self._playing:
                session.next_report_at = 0.0

    def change_resolution(self, clip: Clip) -> None:
        """Go over to another clip where the next keyframe would be; its SPS and PPS come in the stream.

        The camera's fps stays what it is.
        """
        self._set(_next_clip=clip)

    def corrupt(self, every_n: int) -> None:
        """Damage the coded data of every n-th picture; 0 stops. The log calls those pictures ``damaged``."""
        self._set(_corrupt_every=every_n)

    def lose(self, every_n: int) -> None:
        """Leave out every n-th RTP packet, sequence numbers counting on; 0 stops. The log has ``lost_packets``."""
        self._set(_lose_every=every_n)

    def end(self, how: str = "bye", gone: bool = False) -> None:
        """End every client's stream: "bye" says so by RTCP, "close" closes the connection in good order.

        A client by UDP need not notice "close". ``gone`` also answers 404 from then on, until `rewind`.
        """
        if how not in ("bye", "close"):
            raise ValueError(f"how must be 'bye' or 'close', got {how!r}")
        with self._changed:
            self._gone = self._gone or gone
            ended = dict(self._playing)
            self._playing.clear()
            self._changed.notify_all()
        self._settle()
        if how == "bye":
            say_goodbye(ended)
            return
        for connection in ended.values():
            with contextlib.suppress(OSError):
                connection.finish()

    def rewind(self, frames: int | None = None) -> None:
        """Play from the clip's first picture, for ever or ``frames`` pictures; also after the end. Indexes count on."""
        self._set(_position=0, _remaining=frames, _gone=False)

    # Faults of the connection

    def cut(self) -> None:
        """Drop the connections of this camera's clients with RST."""
        with self._changed:
            connections = list(self._connections)
        for connection in connections:
            connection.abort()

    def refuse(self) -> None:
        """Refuse new connections to the camera's port: every camera on that port is hit."""
        self._doorway.refuse()

    def accept(self) -> None:
        """Take connections again after `refuse`."""
        self._doorway.accept()

    def restart(self, after_seconds: float) -> None:
        """Like a reboot: cut all connections to the camera's port, refuse for a while, accept. Returns at once."""
        self._doorway.restart(after_seconds)

    # Faults of the answers

    def status(self, code: int, methods: tuple[str, ...] | list[str] = ("DESCRIBE", "SETUP", "PLAY")) -> None:
        """Answer the requests of these methods with an RTSP status."""
        self._set(_status=code, _status_methods=tuple(methods), _silent=False)

    def not_found(self) -> None:
        """Answer 404."""
        self.status(404)

    def unauthorised(self) -> None:
        """Answer 401 even to the right password."""
        self.status(401)

    def silence(self) -> None:
        """Accept connections and never answer a request. Media that plays goes on."""
        self._set(_silent=True)

    def answer(self) -> None:
        """Answer normally again."""
        self._set(_status=None, _silent=False)

    def heal(self) -> None:
        """End every fault that lasts, the refused port included. An ended camera stays ended."""
        self.answer()
        self._set(_corrupt_every=0, _lose_every=0, _hold_until=0.0)
        self.set_clock(self.settings.clock_offset_seconds, self.settings.sender_reports)
        with self._changed:
            stopped = self._stalled or self._trickling
        if stopped:
            self.resume()
        self.accept()

    # What the RTSP connection calls

    def reply_to(self, method: str, authorised: bool) -> int | None:
        """Count a request and return the status it is to be answered with; None for no answer at all."""
        with self._changed:
            self.counters.requests += 1
            self.counters.authorised_requests += authorised
            self.counters.describes += method == "DESCRIBE"
            self.counters.teardowns += method == "TEARDOWN"
            self.counters.keepalives += method in ("GET_PARAMETER", "SET_PARAMETER")
            self._changed.notify_all()
            if self._silent:
                return None
            if self._status is not None and method in self._status_methods:
                return self._status
            return 404 if self._gone and method in ("DESCRIBE", "SETUP", "PLAY") else 200

    def attach(self, connection: Connection) -> None:
        """Remember a connection whose requests are for this camera, so that `cut` finds it."""
        with self._changed:
            self._connections.add(connection)

    def detach(self, connection: Connection) -> None:
        """Forget a connection."""
        with self._changed:
            self._connections.discard(connection)
