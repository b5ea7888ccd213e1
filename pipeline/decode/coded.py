"""Coded pictures as NVDEC reads them: start codes before every unit, parameters before every keyframe."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import av

from pipeline.decode.nal_units import put_start_codes, sequence_header
from pipeline.decode.size_headers import SIZE_HEADERS
from pipeline.frame import StreamInfo

_HEADER_BYTES = 1024  # parameter sets come first


class Coded(NamedTuple):
    """A coded picture in memory of ours, as a packet has it."""

    buffer_ptr: int
    buffer_size: int
    data: bytearray


def with_start_codes(coded: Any) -> Coded | None:
    """Return a packet as NVDEC reads it, where nothing but lengths must change; None where it is damaged or empty.

    FFmpeg's filter does that, too, and puts parameters before keyframes; but it lets Python's lock go five times, and
    where dozens of streams decode, each of them has another thread woken.
    """
    data = bytearray(coded)
    if not data:
        return None
    try:
        put_start_codes(data)
    except ValueError:
        return None
    return _coded(data)


def with_parameters(coded: Any, parameters: bytes) -> Coded:
    """Return a packet with start codes, ``parameters`` before it."""
    return _coded(bytearray(parameters) + bytes(coded))


def twin_of(coded: Any) -> Any:
    """Return a copy of a packet for a filter, which empties what it takes."""
    twin = av.Packet(coded)
    twin.pts, twin.dts, twin.duration, twin.time_base = coded.pts, coded.dts, coded.duration, coded.time_base
    twin.is_keyframe = coded.is_keyframe
    if coded.has_sidedata("new_extradata"):
        twin.set_sidedata(coded.get_sidedata("new_extradata"))
    return twin


def described_parameters(info: StreamInfo, codec: str) -> bytes:
    """Return the parameter sets, with start codes, that the stream's description holds; nothing where it has none.

    Many cameras send them there alone. FFmpeg's own filter would put them before newer ones of the packets, too.
    """
    extradata = bytes(info.template.codec_context.extradata or b"")
    return extradata if extradata[:1] == b"\0" and sequence_header(extradata, codec) else b""


def header_of(coded: Any, codec: str) -> bytes:
    """Return what of a keyframe is another where pictures of another size begin; nothing where it has none.

    It is the sequence header of H.264 and HEVC, with start codes, and one of ``SIZE_HEADERS`` for the rest.
    """
    data = coded.data if isinstance(coded, Coded) else coded
    first = memoryview(data)[:_HEADER_BYTES].tobytes()
    size_header = SIZE_HEADERS.get(codec)
    return sequence_header(first, codec) if size_header is None else size_header(first)


def _coded(data: bytearray) -> Coded:
    return Coded(ctypes.addressof(ctypes.c_char.from_buffer(data)), len(data), data)
