"""What of a keyframe tells the size of its pictures, in codecs other than H.264 and HEVC.

VP9 and AV1 may change size between keyframes, too (by scaled references, by a size of the frame's own); that is not
looked for.
"""

from __future__ import annotations

from collections.abc import Callable

_MPEG2_SEQUENCE = b"\0\0\1\xb3"
_VP8_START = b"\x9d\x01\x2a"
_VP9_SYNC = 0x498342
_VP9_RGB = 7
_VP9_LONGEST = 10  # bytes of a VP9 keyframe, to the end of its size; more always follow
_AV1_SEQUENCE = 1
_LEB128_LONGEST = 8


def mpeg2_size(data: bytes) -> bytes:
    """Return the size in the sequence header (ISO 13818-2, 6.2.2.1). Bit rate and buffer after it may vary."""
    at = data.find(_MPEG2_SEQUENCE)
    size = data[at + 4 : at + 7]  # 12 bits each way
    return size if at >= 0 and len(size) == 3 else b""


def vp8_size(data: bytes) -> bytes:
    """Return both words of size and scale (RFC 6386, 9.1)."""
    return data[6:10] if len(data) >= 10 and not data[0] & 1 and data[3:6] == _VP8_START else b""


def vp9_size(data: bytes) -> bytes:
    """Return width and height, each less one, and bits (VP9 bitstream, 6.2), of a superframe's first frame."""
    if len(data) < _VP9_LONGEST:
        return b""
    bits = _Bits(data[:_VP9_LONGEST])
    marker, profile = bits.take(2), bits.take(1) | bits.take(1) << 1
    reserved = bits.take(1) if profile == 3 else 0
    shows_existing, is_inter = bits.take(1), bits.take(1)
    bits.take(2)  # show_frame, error_resilient_mode
    if marker != 2 or reserved or shows_existing or is_inter or bits.take(24) != _VP9_SYNC:
        return b""
    depth = 8 if profile < 2 else 12 if bits.take(1) else 10
    if bits.take(3) != _VP9_RGB:
        bits.take(4 if profile & 1 else 1)  # color_range; subsampling, reserved
    elif profile & 1:
        bits.take(1)  # reserved
    else:
        return b""  # RGB is 4:4:4, which these profiles have not
    return bits.take(32).to_bytes(4, "big") + bytes([depth])


def av1_sequence(data: bytes) -> bytes:
    """Return the payload of the first sequence header of a temporal unit (AV1 bitstream, 5.3 and 5.5)."""
    at = 0
    while at < len(data):
        header = data[at]
        at += 2 if header & 4 else 1  # with an extension
        length = len(data) - at
        if header & 2:
            length, at = _leb128(data, at)
        if header & 0x80 or length < 0 or at + length > len(data):
            return b""
        if header >> 3 & 15 == _AV1_SEQUENCE:
            return data[at : at + length]
        at += length
    return b""


SIZE_HEADERS: dict[str, Callable[[bytes], bytes]] = {  # PyNvVideoCodec's name -> of a keyframe's first bytes
    "AV1": av1_sequence,
    "MPEG2": mpeg2_size,
    "VP8": vp8_size,
    "VP9": vp9_size,
}
"""Each returns nothing for what is no keyframe, cut off or damaged, and never raises."""


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    """Return the number that begins at ``at``, and where it ends; -1 where it does not end."""
    value = 0
    for index, byte in enumerate(data[at : at + _LEB128_LONGEST]):
        value |= (byte & 0x7F) << 7 * index
        if not byte & 0x80:
            return value, at + index + 1
    return -1, at


class _Bits:
    """Reads numbers from the first bit on. Not beyond the end: the caller sees to that."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        self._left -= count
        return self._value >> self._left & ((1 << count) - 1)
