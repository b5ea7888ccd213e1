"""One client's media: RTP numbering and timestamps, and the two ways to carry packets (RTSP connection, UDP)."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tests.helpers import rtp


class Transport(Protocol):
    """Carries RTP and RTCP packets to one client. Raises OSError once the client is gone."""

    answer: str
    """Value of the Transport header in the reply to SETUP."""

    def send_media(self, packets: list[bytes]) -> None:
        """Hand RTP packets to the socket, all of them."""

    def send_control(self, packet: bytes) -> None:
        """Hand one RTCP packet to the socket."""

    def wait_until_read(self, within_seconds: float) -> None:
        """Wait until a control packet can no longer overtake the media sent before it."""

    def close(self) -> None:
        """Release the sockets that belong to this transport alone."""


class InterleavedTransport:
    """Packets inside the RTSP connection (``rtsp_transport=tcp``)."""

    def __init__(self, write: Callable[[bytes], None], media_channel: int, control_channel: int) -> None:
        self._write = write
        self._media_channel = media_channel
        self._control_channel = control_channel
        self.answer = f"RTP/AVP/TCP;unicast;interleaved={media_channel}-{control_channel}"

    def send_media(self, packets: list[bytes]) -> None:
        self._write(b"".join(rtp.interleaved(self._media_channel, packet) for packet in packets))

    def send_control(self, packet: bytes) -> None:
        self._write(rtp.interleaved(self._control_channel, packet))

    def wait_until_read(self, within_seconds: float) -> None:
        """Nothing to wait for: one connection keeps the order."""

    def close(self) -> None:
        """Nothing to release: the connection closes itself."""


class UdpTransport:
    """Packets over a pair of UDP ports (``rtsp_transport=udp``). What the client sends back is not read."""

    def __init__(self, host: str, client_host: str, media_port: int, control_port: int) -> None:
        self._media, self._control = bind_port_pair(host)
        self._media_address = (client_host, media_port)
        self._control_address = (client_host, control_port)
        ours = f"{self._media.getsockname()[1]}-{self._control.getsockname()[1]}"
        self.answer = f"RTP/AVP;unicast;client_port={media_port}-{control_port};server_port={ours}"

    def send_media(self, packets: list[bytes]) -> None:
        for packet in packets:
            self._media.sendto(packet, self._media_address)

    def send_control(self, packet: bytes) -> None:
        self._control.sendto(packet, self._control_address)

    def wait_until_read(self, within_seconds: float) -> None:
        """Wait until the client has taken all media from its socket: FFmpeg reads RTCP before media that waits."""
        until = time.monotonic() + within_seconds
        while unread_bytes(self._media_address[1]) > 0 and time.monotonic() < until:
            time.sleep(0.01)

    def close(self) -> None:
        self._media.close()
        self._control.close()


def unread_bytes(port: int) -> int:
    """Return how much a UDP socket of this machine has received and not been asked for, as Linux tells it."""
    rows = [line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
    return sum(int(row[4].split(":")[1], 16) for row in rows if row[1].endswith(f":{port:04X}"))


def bind_port_pair(host: str) -> tuple[socket.socket, socket.socket]:
    """Return two UDP sockets on neighbouring ports, the first one even, as RTP wants them."""
    for _ in range(100):
        first = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        second = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            first.bind((host, 0))
            port = first.getsockname()[1]
            if port % 2 == 0:
                second.bind((host, port + 1))
                return first, second
        except OSError:
            pass
        first.close()
        second.close()
    raise OSError(f"no two neighbouring UDP ports are free on {host}")


class MediaSession:
    """Numbers and times the packets of one client. Not thread-safe: the camera's thread alone sends."""

    def __init__(self, transport: Transport, *, first_timestamp: int | None = None) -> None:
        self.id = secrets.token_hex(4)
        self.transport = transport
        self.started = False
        """True once a keyframe was sent: only from then on can the client decode."""
        self.next_report_at = 0.0
        self.first_timestamp = secrets.randbits(32) if first_timestamp is None else first_timestamp
        self.sequence = secrets.randbits(16)
        self._ssrc = secrets.randbits(32)
        self._origin: float | None = None
        self._packets = 0
        self._octets = 0

    def timestamp_of(self, captured_at: float) -> int:
        """Return the RTP timestamp of a monotonic time. The first time ever asked for gets `first_timestamp`."""
        if self._origin is None:
            self._origin = captured_at
        return (self.first_timestamp + round((captured_at - self._origin) * rtp.CLOCK_RATE)) & 0xFFFFFFFF

    def send_picture(self, payloads: list[bytes], captured_at: float, is_lost: Callable[[], bool]) -> tuple[int, int]:
        """Send one picture. Return its RTP timestamp and how many of its packets ``is_lost`` made disappear."""
        timestamp = self.timestamp_of(captured_at)
        packets = []
        for place, payload in enumerate(payloads, start=1):
            header = rtp.rtp_header(self.sequence, timestamp, self._ssrc, last_of_picture=place == len(payloads))
            self.sequence = (self.sequence + 1) & 0xFFFF
            self._octets += len(payload)
            if not is_lost():
                packets.append(header + payload)
        self._packets += len(payloads)
        if packets:
            self.transport.send_media(packets)
        return timestamp, len(payloads) - len(packets)

    def send_report(self, at: float, wall_seconds: float) -> None:
        """Send the RTCP sender report that says which wall time the monotonic time ``at`` is."""
        timestamp = self.timestamp_of(at)
        report = rtp.sender_report(self._ssrc, wall_seconds, timestamp, self._packets, self._octets)
        self.transport.send_control(report)

    def send_bye(self) -> None:
        """Tell the client that no more packets will come."""
        self.transport.send_control(rtp.bye(self._ssrc))
