"""What the headers of H.264 and HEVC units (NAL units) tell of the picture they belong to."""

from __future__ import annotations

import enum
from collections.abc import Iterator

_START_CODE = b"\0\0\1"
_LONG_START_CODE = b"\0\0\0\1"
_LONGEST_PARAMETERS = 1024


class Unit(enum.Enum):
    """What leaving a unit out would mean."""

    FREE = "a part of a picture that no other refers to"
    NEEDED = "a part of any other picture, or not known"
    PARAMETERS = "pictures after it need it"
    ASIDE = "no picture needs it"


class H264Headers:
    """The units of one H.264 stream."""

    def __init__(self) -> None:
        self._whole_frames: bool | None = None
        """Whether no picture is a field; None before the first sequence parameters."""

    def look(self, data: bytes, begin: int) -> Unit:
        """Return what the unit is that begins at ``begin``. Parameters are remembered."""
        header = data[begin]
        kind = header & 0x1F
        if kind == 1:
            return Unit.FREE if self._whole_frames and not header & 0x60 else Unit.NEEDED
        if kind in (6, 9, 12, 14):  # SEI, delimiter, filler, prefix
            return Unit.ASIDE
        if kind == 7:
            self._whole_frames = self._whole_frames is not False and _codes_whole_frames(data, begin + 1)
        return Unit.PARAMETERS if kind in (7, 8) else Unit.NEEDED


class HevcHeaders:
    """The units of one HEVC stream."""

    def __init__(self) -> None:
        self._highest = -1
        """The highest temporal sub-layer; -1 before the first sequence parameters."""

    def look(self, data: bytes, begin: int) -> Unit:
        """Return what the unit is that begins at ``begin``. Parameters are remembered."""
        if begin + 3 > len(data):
            return Unit.NEEDED
        first, second = data[begin], data[begin + 1]
        kind, layer, temporal = first >> 1 & 0x3F, (first & 1) << 5 | second >> 3, (second & 7) - 1
        if kind in (0, 2, 4, 6, 8):  # trailing, TSA, STSA, RADL, RASL: each "_N"
            return Unit.FREE if layer == 0 and temporal == self._highest else Unit.NEEDED
        if kind in (35, 38, 39, 40):  # delimiter, filler, SEI
            return Unit.ASIDE
        if kind == 33 and layer == 0:
            self._highest = max(self._highest, data[begin + 2] >> 1 & 7)
        return Unit.PARAMETERS if kind in (32, 33, 34) else Unit.NEEDED


def after_start_codes(data: bytes) -> Iterator[int]:
    """Yield where each unit of an Annex B stream begins."""
    at = data.find(_START_CODE) + 3
    while 3 <= at < len(data):
        yield at
        at = data.find(_START_CODE, at) + 3


def after_lengths(data: bytes | bytearray, length_bytes: int) -> Iterator[int]:
    """Yield where each unit begins that its length precedes. Raises ValueError where the lengths do not add up."""
    at = 0
    while at < len(data):
        begin = at + length_bytes
        at = begin + int.from_bytes(data[at:begin], "big")
        if not begin < at <= len(data):
            raise ValueError(f"a unit ends at {at}, in {len(data)} bytes")
        yield begin


def put_start_codes(data: bytearray) -> None:
    """Put a start code where each unit's length of 4 bytes stood. Raises ValueError where they do not add up."""
    for begin in list(after_lengths(data, len(_LONG_START_CODE))):
        data[begin - len(_LONG_START_CODE) : begin] = _LONG_START_CODE


def avcc_units(record: bytes) -> tuple[int, list[bytes]]:
    """Return bytes of a length prefix and the sequence parameters, of an ``avcC`` record (ISO 14496-15, 5.3.3.1)."""
    units, at = [], 6
    for _ in range(record[5] & 0x1F):
        length = int.from_bytes(record[at : at + 2], "big")
        units.append(record[at + 2 : at + 2 + length])
        at += 2 + length
    return (record[4] & 3) + 1, units


def hvcc_units(record: bytes) -> tuple[int, list[bytes]]:
    """Return bytes of a length prefix and the parameter sets, of an ``hvcC`` record (ISO 14496-15, 8.3.3.1)."""
    units, at = [], 23
    for _ in range(record[22]):
        count = int.from_bytes(record[at + 1 : at + 3], "big")
        at += 3
        for _ in range(count):
            length = int.from_bytes(record[at : at + 2], "big")
            units.append(record[at + 2 : at + 2 + length])
            at += 2 + length
    return (record[21] & 3) + 1, units


class _Bits:
    """Reads numbers of a unit's payload, bit by bit. Raises IndexError at its end."""

    def __init__(self, payload: bytes) -> None:
        self._bytes = payload.replace(b"\0\0\3", b"\0\0")
        self._at = 0

    def take(self, count: int) -> int:
        value = 0
        for _ in range(count):
            value = value << 1 | self._bytes[self._at >> 3] >> (7 - (self._at & 7)) & 1
            self._at += 1
        return value

    def unsigned(self) -> int:
        """An Exp-Golomb number (H.264, 9.1)."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)

    def signed(self) -> int:
        number = self.unsigned()
        return (number + 1) // 2 if number & 1 else -(number // 2)


_HIGH_PROFILES = frozenset({44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244})


def _codes_whole_frames(data: bytes, begin: int) -> bool:
    """Return ``frame_mbs_only_flag`` of H.264's sequence parameters (7.3.2.1.1); False where they are cut off."""
    bits = _Bits(data[begin : begin + _LONGEST_PARAMETERS])
    try:
        profile = bits.take(8)
        bits.take(16)  # constraints, level
        bits.unsigned()  # id
        if profile in _HIGH_PROFILES:
            _skip_high_profile(bits)
        bits.unsigned()  # log2_max_frame_num_minus4
        order_type = bits.unsigned()
        if order_type == 0:
            bits.unsigned()
        elif order_type == 1:
            bits.take(1)
            bits.signed()
            bits.signed()
            for _ in range(bits.unsigned()):
                bits.signed()
        bits.unsigned()  # max_num_ref_frames
        bits.take(1)  # gaps_in_frame_num_value_allowed_flag
        bits.unsigned()  # width
        bits.unsigned()  # height
        return bool(bits.take(1))
    except IndexError:
        return False


def _skip_high_profile(bits: _Bits) -> None:
    chroma_format = bits.unsigned()
    if chroma_format == 3:
        bits.take(1)
    bits.unsigned()  # bit depths
    bits.unsigned()
    bits.take(1)
    if bits.take(1):
        for number in range(12 if chroma_format == 3 else 8):
            if bits.take(1):
                _skip_scaling_list(bits, 16 if number < 6 else 64)


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last


def sequence_header(data: bytes, codec: str) -> bytes:
    """Return the sequence parameter set of an Annex B packet; nothing where there is none, or in codecs other
    than "H264" and "HEVC"."""
    for unit in data.split(b"\0\0\1")[1:]:
        if unit and ((codec == "H264" and unit[0] & 31 == 7) or (codec == "HEVC" and unit[0] >> 1 & 63 == 33)):
            return unit.rstrip(b"\0")
    return b""
