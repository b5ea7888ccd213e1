"""Cameras that say what their pictures are coded with in the stream's description alone, as SDP lets them."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import av
import pytest

from pipeline.decode.coded import header_of
from pipeline.decode.nal_units import after_start_codes
from pipeline.frame import StreamInfo
from pipeline.source.source import SourceOptions, open_source
from tests.decode.streams import packet_of
from tests.decode.test_disposable import X264, X265, write_clip
from tests.helpers.nvdec_double import NvdecDouble

CLIPS = {
    "h264": ("libx264", {X264: "bframes=2:keyint=10"}),
    "hevc": ("libx265", {X265: "bframes=2:keyint=10:log-level=none"}),
}


def write(folder: Path, codec: str) -> Path:
    """Write a clip with start codes."""
    encoder, options = CLIPS[codec]
    if encoder not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {encoder}")
    return write_clip(folder / f"{codec}.ts", "mpegts", encoder, options)


def without_parameters(packet: Any, codec: str) -> Any:
    """Return the packet without its parameter sets."""
    data, kept = bytes(packet), b""
    begins = list(after_start_codes(data))
    for begin, end in zip(begins, [*(begin - 3 for begin in begins[1:]), len(data)], strict=True):
        kind = data[begin] & 31 if codec == "h264" else data[begin] >> 1 & 63
        if kind not in ((7, 8) if codec == "h264" else (32, 33, 34)):
            kept += b"\0\0\1" + data[begin:end]
    bare = av.Packet(kept)
    bare.pts, bare.dts, bare.time_base, bare.is_keyframe = packet.pts, packet.dts, packet.time_base, packet.is_keyframe
    return bare


class Described:
    """A source whose packets come without parameters; the description has them."""

    def __init__(self, path: Path) -> None:
        self._source = open_source(str(path), SourceOptions(), threading.Event())

    def open(self) -> StreamInfo:
        self.info = self._source.open()
        assert bytes(self.info.template.codec_context.extradata)[:3] in (b"\0\0\0", b"\0\0\1")
        return self.info

    def read(self) -> Any:
        packet = self._source.read()
        return packet and packet_of(without_parameters(packet.payload, self.info.codec), packet.pts_seconds)

    def close(self) -> None:
        self._source.close()


def play(path: Path, nvdec: NvdecDouble) -> int:
    """Give NVDEC's stand-in a whole clip without parameters; return the packets."""
    source, count = Described(path), 0
    decoder = nvdec.open(source.open())
    while (packet := source.read()) is not None:
        decoder.decode(packet)
        count += 1
    decoder.close()
    source.close()
    return count


def pictures_of(packets: list[bytes], codec: str) -> int:
    """Return how many pictures a decoder makes of these packets that knows nothing else."""
    context = av.CodecContext.create(codec, "r")
    return sum(len(context.decode(av.Packet(data))) for data in packets) + len(context.decode(None))


@pytest.mark.parametrize("codec", CLIPS)
def test_described_parameters_go_before_the_keyframes_that_lack_them(tmp_path, codec):
    nvdec = NvdecDouble()
    count = play(write(tmp_path, codec), nvdec)
    (session,) = nvdec.sessions
    assert header_of(session.given[0], codec.upper()) != b""
    assert session.header == header_of(session.given[0], codec.upper())
    assert pictures_of(session.given, codec) == count > 20


@pytest.mark.parametrize("codec", CLIPS)
def test_a_decoder_of_other_pictures_is_not_used_for_described_ones(tmp_path, codec):
    nvdec = NvdecDouble()
    path = write(tmp_path, codec)
    play(path, nvdec)
    (first,) = nvdec.idle
    first.header = b"of another camera"
    play(path, nvdec)
    assert first.closed
    (_, second) = nvdec.sessions
    assert pictures_of(second.given, codec) == len(first.given)


def test_without_any_parameters_a_stream_does_not_get_those_of_another(tmp_path):
    nvdec = NvdecDouble()
    path = write(tmp_path, "h264")
    play(path, nvdec)
    (first,) = nvdec.idle
    given = len(first.given)
    source = Described(path)
    info = source.open()
    info.template.codec_context.extradata = None
    decoder = nvdec.open(info)
    decoder.decode(source.read())
    decoder.close()
    source.close()
    assert len(first.given) == given and first.closed


def test_parameters_of_the_packets_are_newer_than_the_described_ones(tmp_path):
    nvdec = NvdecDouble()
    path = write(tmp_path, "h264")
    source = open_source(str(path), SourceOptions(), threading.Event())
    decoder = nvdec.open(source.open())
    packets, number = [], 0
    while (packet := source.read()) is not None:
        packets.append(bytes(packet.payload))
        bare = packet_of(without_parameters(packet.payload, "h264"))
        decoder.decode(packet if number == 0 else bare)
        number += 1
    decoder.close()
    source.close()
    keyframes = [data for data in nvdec.sessions[0].given if header_of(data, "H264")]
    assert keyframes == packets[:1]
