"""Decodes on the GPU: PyAV demuxes, NVDEC decodes (through PyNvVideoCodec), pictures stay on the device."""

from __future__ import annotations

import importlib
import logging
import threading
from dataclasses import replace
from typing import Any, Literal

import av
import av.error

from engines.cores import children_roam
from engines.device import Gpu
from engines.errors import DeviceLostError, DeviceMemoryError, RunError, RuntimeMissingError
from pipeline.decode.coded import described_parameters, header_of, twin_of, with_parameters, with_start_codes
from pipeline.decode.decoder import CorruptPacketError, Picture
from pipeline.decode.nvdec_kind import Kind, NvdecRefusedError, check_caps, has_long_lengths, kind_of
from pipeline.decode.planes import HD_HEIGHT, clockwise_rotation, colour_of
from pipeline.decode.surfaces import SurfacePool, pitch_of
from pipeline.frame import Colour, Packet, Size, StreamInfo

_MOST_IDLE = 32
_REMEMBERED_PACKETS = 128
_LARGER = Size(4096, 4096)
"""What a decoder is made for once a stream's pictures have outgrown their first size."""
_CHROMA_420 = 1  # cudaVideoChromaFormat_420

_left: list[_Session] = []
"""Of a lost GPU."""
_log = logging.getLogger("onpace.decode")


class Nvdec:
    """The decoders of one GPU, kept for the next connection: making one takes longer than a short clip.

    Thread-safe; closing twice is safe. Raises RuntimeMissingError where NVDEC cannot be used.
    """

    def __init__(self, gpu: Gpu) -> None:
        try:
            self._library: Any = importlib.import_module("PyNvVideoCodec")
        except (ImportError, RuntimeError) as error:
            raise RuntimeMissingError(
                f"decoding on the GPU needs PyNvVideoCodec and the driver's video libraries: {error}. Install "
                "the 'cuda' extra; in a container, set NVIDIA_DRIVER_CAPABILITIES=compute,utility,video."
            ) from error
        self.gpu = gpu
        self.surfaces = SurfacePool(gpu)
        gpu.use()
        self._context = int(importlib.import_module("cuda.core").Device(gpu.index).context.handle)
        self._lock = threading.Lock()
        self._idle: list[_Session] = []
        self._closed = False
        self._known_caps: dict[tuple[str, int], dict[str, Any]] = {}

    def open(self, info: StreamInfo) -> NvdecDecoder:
        """Return a decoder for the stream. Raises NvdecRefusedError where NVDEC cannot take it."""
        kind, filtered = kind_of(info)
        check_caps(self._caps(kind), info, self.gpu.name)
        self.gpu.use()
        return NvdecDecoder(self, info, kind, filtered)

    def session(self, kind: Kind) -> _Session:
        """Return an idle session of that kind, or a new one. Raises NvdecRefusedError."""
        with self._lock:
            for index, session in enumerate(self._idle):
                if session.kind == kind:
                    return self._idle.pop(index)
        return self.new_session(kind)

    def new_session(self, kind: Kind) -> _Session:
        """Return a session that has decoded nothing yet. Raises NvdecRefusedError."""
        try:
            return _Session(self._library, self.gpu, self._context, kind)
        except (DeviceMemoryError, DeviceLostError):
            raise
        except Exception as error:  # the library's exceptions have no common base of their own
            raise NvdecRefusedError(_first_line(error)) from error

    def give_back(self, session: _Session) -> None:
        """Keep a session for the next connection, instead of the one that has been idle the longest."""
        gone: _Session | None = session
        with self._lock:
            # One that was made for whatever comes nobody asks for.
            if not self._closed and session.kind.size != _LARGER:
                self._idle.append(session)
                gone = self._idle.pop(0) if len(self._idle) > _MOST_IDLE else None
        if gone is not None:
            gone.close()

    def close(self) -> None:
        """Give decoders and memory back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for session in idle:
            session.close()
        self.surfaces.close()

    def _caps(self, kind: Kind) -> dict[str, Any]:
        """Return what NVDEC says it can do. Asked once: the library makes a CUDA context for the answer, and holds
        the interpreter lock meanwhile, which stops every other stream. Raises NvdecRefusedError where it says nothing,
        as for want of memory."""
        with self._lock:
            found = self._known_caps.get((kind.codec, kind.bits))
            if found is None:
                library = self._library
                try:
                    answer = library.GetDecoderCaps(
                        gpuid=self.gpu.index,
                        codec=getattr(library.cudaVideoCodec, kind.codec),
                        chromaformat=library.cudaVideoChromaFormat(_CHROMA_420),
                        bitdepth=kind.bits,
                    )
                except Exception as error:  # the library's exceptions have no common base of their own
                    words = " ".join(str(error).split())[:200]
                    raise NvdecRefusedError(f"NVDEC does not say what it takes: {words}") from error
                found = self._known_caps[kind.codec, kind.bits] = dict(answer)
            return found


class _Session:
    """One NVDEC decoder with a CUDA stream of its own. Not thread-safe."""

    def __init__(self, library: Any, gpu: Gpu, context: int, kind: Kind) -> None:
        self.kind = kind
        self.header = b""
        """What ``header_of`` found of what it decodes; empty before."""
        self.library = library
        self.cuda_stream = gpu.new_stream(f"decode-{kind.codec.lower()}")
        latency = library.DisplayDecodeLatencyType
        try:
            self.decoder: Any = library.CreateDecoder(
                gpuid=gpu.index,
                codec=getattr(library.cudaVideoCodec, kind.codec),
                cudacontext=context,
                cudastream=self.cuda_stream.handle,
                usedevicememory=True,
                maxwidth=kind.room.width,
                maxheight=kind.room.height,
                latency=latency.LOW if kind.at_once else latency.NATIVE,
            )
        except BaseException:
            self.cuda_stream.close()
            raise

    def decode(self, pointer: int, nbytes: int, moment: int) -> Any:
        """Return the pictures that are ready, as NVDEC holds them: valid until the next call."""
        packet = self.library.PacketData()
        packet.bsl_data, packet.bsl, packet.pts = pointer, nbytes, moment
        if self.kind.at_once and nbytes:
            packet.decode_flag = self.library.VideoPacketFlag.ENDOFPICTURE
        return self.decoder.Decode(packet)

    def close(self) -> None:
        """Give it back once its pictures are copied; leave it to the end of the process where the GPU is lost."""
        try:
            self.cuda_stream.synchronise()
        except DeviceLostError:  # the library ends the process where it cannot free what it has
            _left.append(self)
            return
        except RunError:
            pass
        self.decoder = None
        self.cuda_stream.close()


class NvdecDecoder:
    """Turns PyAV packets into pictures on the GPU. Raises NvdecRefusedError for what software must decode."""

    def __init__(self, nvdec: Nvdec, info: StreamInfo, kind: Kind, bitstream_filter: str | None) -> None:
        self._nvdec = nvdec
        self._info = info
        self._kind = kind
        self._filter: Any = None
        if bitstream_filter is not None:
            self._filter = av.bitstream.BitStreamFilterContext(bitstream_filter, info.template)
        self._parameters = described_parameters(info, kind.codec)
        self._long_lengths = bitstream_filter is not None and has_long_lengths(info)
        self._session: _Session | None = nvdec.session(kind)
        self._seconds_per_tick = float(info.template.time_base)
        self._packets: dict[int, tuple[Packet, int | None]] = {}
        self._latest: tuple[Packet, int | None] | None = None
        self._number = 0
        self._begun = False
        self._meaning: tuple[Colour, int] | None = None
        self._shape: tuple[int, ...] | None = None
        self._pitch = 0

    def decode(self, packet: Packet) -> list[Picture]:
        """Return the pictures now ready, in presentation order. Empty while the codec reorders."""
        coded = packet.payload
        pts = coded.pts
        if self._meaning is None and coded.is_keyframe:
            self._meaning = self._learn(coded)
        pictures: list[Picture] = []
        try:
            for part in self._readable(coded):
                if coded.is_keyframe:
                    self._begin(part, coded, pictures)
                pictures += self._decode(packet, pts, part)
        except (NvdecRefusedError, DeviceMemoryError) as error:
            raise NvdecRefusedError(str(error), pictures) from error
        return pictures

    def drain(self) -> list[Picture]:
        """Return the pictures still held back. Call once, at the end of the stream."""
        session = self._session
        if session is None:
            return []
        try:
            return self._pictures(session, session.decode(0, 0, 0))
        except (DeviceMemoryError, DeviceLostError):
            raise
        except Exception as error:  # the library's exceptions have no common base of their own
            raise _refusal(session, error) from error

    def close(self) -> None:
        """Keep the decoder for the next connection. Closing twice is safe."""
        session, self._session = self._session, None
        self._packets.clear()
        if session is None:
            return
        try:
            session.decode(0, 0, 0)  # nothing of this stream may come out in the next
        except Exception:  # whatever it is, this session is not kept
            session.close()
        else:
            self._nvdec.give_back(session)

    def _readable(self, coded: Any) -> Any:
        """Return a packet as the parts that NVDEC reads."""
        if self._filter is None:
            return (self._with_parameters(coded) if coded.is_keyframe else coded,)
        # Until a keyframe has brought parameters, the filter puts them before whatever else begins anew.
        if self._long_lengths and self._meaning is not None and not coded.is_keyframe:
            rewritten = with_start_codes(coded)
            if rewritten is not None:
                return (rewritten,)
        try:
            return self._filter.filter(twin_of(coded))
        except av.error.FFmpegError:
            raise CorruptPacketError(f"{self._info.codec}: a packet is damaged") from None

    def _decode(self, packet: Packet, pts: int | None, coded: Any) -> list[Picture]:
        session = self._session
        if session is None:
            raise NvdecRefusedError("it failed before")
        self._number += 1
        # The true time where there is one: the parser sorts pictures by it.
        moment = -self._number if pts is None else pts
        packets = self._packets
        self._latest = packets[moment] = (packet, pts)
        if len(packets) > _REMEMBERED_PACKETS:
            del packets[next(iter(packets))]
        for attempt in (1, 2):
            try:
                return self._pictures(session, session.decode(coded.buffer_ptr, coded.buffer_size, moment))
            except (DeviceMemoryError, DeviceLostError):
                raise
            except Exception as error:  # a larger picture than the decoder was made for, or a stream it cannot take
                refusal = _refusal(session, error)
                session.close()
                self._session = None
                if attempt == 2 or not packet.payload.is_keyframe:
                    raise refusal from error
                session = self._begin_anew(replace(self._kind, size=_LARGER), session.header)
        raise AssertionError  # the loop returns or raises

    def _pictures(self, session: _Session, found: Any) -> list[Picture]:
        return [self._picture(session, frame) for frame in found]

    def _picture(self, session: _Session, frame: Any) -> Picture:
        shape = frame.shape
        if shape != self._shape:
            self._shape = shape
            self._pitch = pitch_of(frame, self._kind.layout)
        luma = frame.GetPtrToPlane(0)
        planes = self._nvdec.surfaces.copy(
            session.cuda_stream,
            luma=luma,
            chroma=frame.GetPtrToPlane(1),
            pitch=self._pitch,
            size=Size(shape[1], shape[0] * 2 // 3),
            layout=self._kind.layout,
        )
        told = self._packets.pop(frame.getPTS(), None) or self._latest
        assert told is not None  # a picture follows a packet
        packet, pts = told
        colour, rotation = self._meaning or (Colour(), 0)
        return Picture(
            planes=planes,
            colour=colour,
            rotation=rotation,
            pts_seconds=None if pts is None else pts * self._seconds_per_tick,
            packet=packet,
            damaged=packet.payload.is_corrupt,
            owner=None,
        )

    def _with_parameters(self, coded: Any) -> Any:
        """Return a keyframe as NVDEC can begin with it: after the described parameters, until it brings its own."""
        if self._parameters and header_of(coded, self._kind.codec):
            self._parameters = b""
        return with_parameters(coded, self._parameters) if self._parameters else coded

    def _begin(self, coded: Any, packet: Any, pictures: list[Picture]) -> None:
        """Look at a keyframe: where pictures of another size begin, drain the decoder and take a new one.

        NVDEC would go on at the size it began with, be it that of another connection, and with that one's parameters
        where this one brings none. ``coded`` is what NVDEC is given of ``packet``; what comes out goes to ``pictures``.
        """
        session = self._session
        if session is None:
            return
        header, begun = header_of(coded, self._kind.codec), self._begun
        self._begun = begun or header != b""
        if session.header in (b"", header):
            session.header = header
            return
        if begun and not header:
            return
        if begun:
            pictures += self.drain()
        session.close()
        self._session = None
        if begun:
            self._meaning = self._learn(packet)
        self._begin_anew(replace(self._kind, size=_LARGER) if begun else self._kind, header)

    def _begin_anew(self, kind: Kind, header: bytes) -> _Session:
        self._session = session = self._nvdec.new_session(kind)
        session.header = header
        self._shape = None  # its rows may be of another length
        return session

    def _learn(self, coded: Any) -> tuple[Colour, int]:
        """Return what the pictures' colours mean and how they are turned: FFmpeg tells it with a decoded picture only.

        So the first keyframe is decoded in software, too, and thrown away.
        """
        context = self._info.template.codec_context
        try:
            with children_roam():  # software may go on with it, and with the threads that it starts here
                context.open(strict=False)
            frames = context.decode(coded) or context.decode(None)
            context.flush_buffers()
        except (av.error.FFmpegError, ValueError, RuntimeError):
            frames = []
        frame = frames[0] if frames else None
        meant = context if frame is None else frame
        layout, high = str(context.pix_fmt), context.height >= HD_HEIGHT
        colour = colour_of(layout, int(meant.colorspace), int(meant.color_range), high)
        return colour, 0 if frame is None else clockwise_rotation(frame)


def _refusal(session: _Session, error: Exception) -> NvdecRefusedError:
    """Return what the library's ``error`` means for the stream. Raises DeviceLostError where the GPU is lost."""
    lost = session.cuda_stream.lost()
    if lost is not None:
        raise lost from error
    return NvdecRefusedError(_first_line(error))


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__


def open_nvdec(gpu: Gpu | None, device: Literal["auto", "cpu", "gpu"]) -> Nvdec | None:
    """Return what decodes on ``gpu``, where the model runs (None: not on a GPU); None where software decodes.

    Raises RuntimeMissingError where "gpu" was asked for and cannot be had.
    """
    if device == "cpu" or (gpu is None and device == "auto"):
        return None
    if gpu is None:
        raise RuntimeMissingError(
            "decode.device: gpu needs a model that runs on the GPU, too (infer.runtime: cuda or tensorrt). "
            "Allowed here: auto, cpu."
        )
    try:
        return Nvdec(gpu)
    except RuntimeMissingError as error:
        if device == "gpu":
            raise
        _log.warning("decoding in software: %s", error)
        return None
