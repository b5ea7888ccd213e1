"""RTP and RTCP bytes for H.264: payloads (RFC 6184), headers, sender reports, and the SDP that announces them."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator

from tests.helpers.numbered_clip import AccessUnit, Clip

CLOCK_RATE = 90_000
PAYLOAD_TYPE = 96
FU_A, STAP_A = 28, 24
SECONDS_1900_TO_1970 = 2_208_988_800
SENDER_REPORT, RECEIVER_REPORT, SOURCE_DESCRIPTION, BYE = 200, 201, 202, 203


def payloads(nals: tuple[bytes, ...], largest: int) -> Iterator[bytes]:
    """Yield RTP payloads of at most ``largest`` bytes: a NAL unit that fits goes as it is, a larger one as FU-A."""
    for nal in nals:
        if len(nal) <= largest:
            yield nal
            continue
        indicator, kind = (nal[0] & 0xE0) | FU_A, nal[0] & 0x1F
        step = largest - 2
        for start in range(1, len(nal), step):
            first = 0x80 if start == 1 else 0
            last = 0x40 if start + step >= len(nal) else 0
            yield bytes((indicator, first | last | kind)) + nal[start : start + step]


def stap_a(nals: tuple[bytes, ...]) -> bytes:
    """Return one payload that holds several small NAL units."""
    importance = max(nal[0] & 0x60 for nal in nals)
    return bytes((importance | STAP_A,)) + b"".join(struct.pack(">H", len(nal)) + nal for nal in nals)


def picture_payloads(clip: Clip, unit: AccessUnit, largest: int) -> list[bytes]:
    """Return the RTP payloads of one picture. Before every keyframe go the clip's SPS and PPS, in one STAP-A."""
    parameter_sets = [stap_a((clip.sps, clip.pps))] if unit.keyframe else []
    return parameter_sets + list(payloads(unit.nals, largest))


def rtp_header(sequence: int, timestamp: int, ssrc: int, *, last_of_picture: bool) -> bytes:
    """Return the 12-byte RTP header; the numbers are cut to their field sizes."""
    marker = 0x80 if last_of_picture else 0
    return struct.pack(
        ">BBHII", 0x80, marker | PAYLOAD_TYPE, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc & 0xFFFFFFFF
    )


def sender_report(ssrc: int, wall_seconds: float, timestamp: int, packets: int, octets: int) -> bytes:
    """Return an RTCP sender report (and a CNAME) that ties ``timestamp`` to ``wall_seconds`` since 1970."""
    ntp = round((wall_seconds + SECONDS_1900_TO_1970) * 2**32) & 0xFFFFFFFFFFFFFFFF
    report = struct.pack(
        ">BBHIQIII",
        *(0x80, SENDER_REPORT, 6, ssrc),
        *(ntp, timestamp & 0xFFFFFFFF, packets & 0xFFFFFFFF, octets & 0xFFFFFFFF),
    )
    name = b"\x01\x06camera".ljust(12, b"\x00")  # CNAME item, ended and padded to whole words
    return report + struct.pack(">BBHI", 0x81, SOURCE_DESCRIPTION, 1 + len(name) // 4, ssrc) + name


def bye(ssrc: int) -> bytes:
    """Return the RTCP packet that ends a stream. It follows an empty receiver report, as every RTCP packet must."""
    return struct.pack(">BBHI", 0x80, RECEIVER_REPORT, 1, ssrc) + struct.pack(">BBHI", 0x81, BYE, 1, ssrc)


def interleaved(channel: int, packet: bytes) -> bytes:
    """Return ``packet`` framed for the RTSP connection itself."""
    return struct.pack(">cBH", b"$", channel, len(packet)) + packet


def session_description(clip: Clip, name: str) -> str:
    """Return the SDP of one H.264 track, control name ``trackID=0``."""
    sets = ",".join(base64.b64encode(nal).decode() for nal in (clip.sps, clip.pps))
    lines = [
        "v=0",
        "o=- 1 1 IN IP4 127.0.0.1",
        f"s={name}",
        "c=IN IP4 0.0.0.0",
        "t=0 0",
        "a=control:*",
        f"m=video 0 RTP/AVP {PAYLOAD_TYPE}",
        f"a=rtpmap:{PAYLOAD_TYPE} H264/{CLOCK_RATE}",
        f"a=fmtp:{PAYLOAD_TYPE} packetization-mode=1; profile-level-id={clip.sps[1:4].hex().upper()}; "
        f"sprop-parameter-sets={sets}",
        f"a=framerate:{clip.fps:g}",
        "a=control:trackID=0",
    ]
    return "\r\n".join(lines) + "\r\n"
