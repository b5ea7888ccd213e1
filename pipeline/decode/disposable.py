"""Which packets can be left out before decoding without any other picture coming out different.

Told from the stream's description and the packets' own bytes, without decoding:

- codecs that code each picture by itself: any packet;
- H.264: pictures that no other refers to, ``nal_ref_idc`` 0 (ITU-T H.264, 7.4.1), in streams of whole frames: of two
  fields one may be a reference and the other not;
- HEVC: sub-layer non-reference pictures of the highest temporal sub-layer (ITU-T H.265, 7.4.2.2): no picture of their
  sub-layer refers to them, and there is none above it.

Every other codec: none. VP9, for one, hands probabilities and motion on from pictures that are no references.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pipeline.decode.nal_units import (
    H264Headers,
    HevcHeaders,
    Unit,
    after_lengths,
    after_start_codes,
    avcc_units,
    hvcc_units,
)
from pipeline.frame import Packet, StreamInfo

_INTRA_ONLY = frozenset({"dnxhd", "jpeg2000", "prores", "rawvideo"})
_QUANTISATION_TABLES = b"\xff\xdb"
_TABLES_BEGIN_WITHIN = 1024


def open_disposable(info: StreamInfo) -> Callable[[Packet], bool] | None:
    """Return what tells whether a packet of the stream can be left out; None where none ever can.

    It must be asked about every keyframe of the connection, in order; about other packets only where that matters.
    """
    if info.decoder == "image":
        return _any
    if info.decoder == "pyav":
        if info.codec in _INTRA_ONLY:
            return _any
        if info.codec == "mjpeg":
            return _MotionJpeg()
        if info.codec in ("h264", "hevc"):
            return _NalUnits(info.codec, info.template.codec_context.extradata or b"")
    return None


def _any(packet: Packet) -> bool:
    return True


class _MotionJpeg:
    """Abbreviated pictures use the tables of one before them: from the first of those on none is left out."""

    def __init__(self) -> None:
        self._complete = True

    def __call__(self, packet: Packet) -> bool:
        if self._complete:
            self._complete = _QUANTISATION_TABLES in bytes(memoryview(packet.payload)[:_TABLES_BEGIN_WITHIN])
        return self._complete


class _NalUnits:
    """H.264 or HEVC, with start codes (Annex B) or length prefixes (avcC, hvcC), as the stream's extradata says."""

    def __init__(self, codec: str, extradata: bytes) -> None:
        self._headers = H264Headers() if codec == "h264" else HevcHeaders()
        self._length_bytes = 0  # none: start codes
        self._known = True
        if extradata[:1] == b"\1":
            try:
                self._length_bytes, units = (avcc_units if codec == "h264" else hvcc_units)(extradata)
            except IndexError:
                self._known, units = False, []
            for unit in units:
                if unit:
                    self._headers.look(unit, 0)
        else:
            for begin in after_start_codes(extradata):
                self._headers.look(extradata, begin)

    def __call__(self, packet: Packet) -> bool:
        if not self._known:
            return False
        if packet.payload.has_sidedata("new_extradata"):  # parameters that this does not read
            self._known = False
            return False
        data = bytes(packet.payload)
        found: set[Unit] = set()
        try:
            for begin in self._units(data):
                unit = self._headers.look(data, begin)
                if unit is Unit.NEEDED:
                    return False
                found.add(unit)
        except ValueError:
            return False
        return Unit.FREE in found and Unit.PARAMETERS not in found

    def _units(self, data: bytes) -> Iterator[int]:
        return after_lengths(data, self._length_bytes) if self._length_bytes else after_start_codes(data)
