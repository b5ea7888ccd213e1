"""Makes small coded streams and pictures whose pixels are known."""

from __future__ import annotations

import io

import av
import numpy as np


def packet_of(payload, pts_seconds=0.0):
    """Return a packet as a source would hand it over."""
    from pipeline.frame import Packet

    return Packet(payload, pts_seconds, 1.0, 1.0, 1e9, "file")


def flat_frame(layout: str, values: tuple[int, ...], width: int = 64, height: int = 48) -> av.VideoFrame:
    """Return a frame of one colour; ``values`` are plane values as the layout stores them."""
    frame = av.VideoFrame(width, height, layout)
    wide = any(mark in layout for mark in ("10le", "12le", "16le"))
    for plane, value in zip(frame.planes, values, strict=True):
        kind = np.uint16 if wide else np.uint8
        plane.update(np.full(plane.buffer_size // np.dtype(kind).itemsize, value, kind).tobytes())
    return frame


def encoded(frames: list[av.VideoFrame], codec: str, container_format: str = "matroska", **options: str) -> io.BytesIO:
    """Return a container in memory with these frames, coded without loss where the codec can."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container_format) as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height = frames[0].width, frames[0].height
        stream.pix_fmt = frames[0].format.name
        for index, frame in enumerate(frames):
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    buffer.seek(0)
    return buffer


class BitWriter:
    """Writes the bits of an H.264 header."""

    def __init__(self) -> None:
        self._bits = ""

    def put(self, value: int, bits: int) -> BitWriter:
        """Append ``value`` as so many bits."""
        self._bits += format(value, f"0{bits}b")
        return self

    def golomb(self, *values: int) -> BitWriter:
        """Append unsigned Exp-Golomb codes."""
        for value in values:
            code = format(value + 1, "b")
            self._bits += "0" * (len(code) - 1) + code
        return self

    def nal(self, header: int) -> bytes:
        """Return the NAL unit with start code, stop bit and emulation prevention."""
        bits = self._bits + "1"
        bits += "0" * (-len(bits) % 8)
        body = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))
        safe = bytearray()
        for byte in body:
            if safe[-2:] == b"\0\0" and byte <= 3:
                safe.append(3)
            safe.append(byte)
        return b"\0\0\0\1" + bytes([header]) + bytes(safe)


def giant_h264(side_in_macroblocks: int) -> bytes:
    """Return a stream that says its pictures are this large, in a few hundred bytes."""
    sps = BitWriter().put(66, 8).put(0, 8).put(52, 8).golomb(0, 0, 2, 1).put(0, 1)
    sps.golomb(side_in_macroblocks - 1, side_in_macroblocks - 1).put(0b1100, 4)
    pps = BitWriter().golomb(0, 0).put(0, 2).golomb(0, 0, 0).put(0, 3).golomb(0, 0, 0).put(0, 3)
    # An IDR slice: first macroblock 0, type I, PPS 0, frame_num 0, idr_pic_id 0, no marking, qp delta 0, then noise.
    slices = BitWriter().golomb(0, 7, 0).put(0, 4).golomb(0).put(0, 2).golomb(0)
    noise = np.random.default_rng(1)
    for byte in noise.integers(0, 256, 400):
        slices.put(int(byte), 8)
    return sps.nal(0x67) + pps.nal(0x68) + slices.nal(0x65) * 3
