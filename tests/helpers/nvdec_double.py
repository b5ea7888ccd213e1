"""Stands in for NVDEC where there is no GPU: keeps what it would be given, and fails when it is told to."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from types import SimpleNamespace

from engines.errors import DeviceLostError
from pipeline.decode.nvdec import NvdecDecoder
from pipeline.decode.nvdec_kind import Kind, kind_of
from pipeline.frame import StreamInfo


class SessionDouble:
    """One decoder: ``given`` is every packet's bytes, ``answer`` what it makes of them."""

    def __init__(self, kind: Kind, answer: Callable[[bytes], list]) -> None:
        self.kind = kind
        self.header = b""
        self.given: list[bytes] = []
        self.closed = False
        self.cuda_stream = SimpleNamespace(lost=lambda: self.loss)
        self.loss: DeviceLostError | None = None
        self.answer = answer

    def decode(self, pointer: int, nbytes: int, moment: int) -> list:
        data = ctypes.string_at(pointer, nbytes) if nbytes else b""
        if data:
            self.given.append(data)
        return self.answer(data)

    def close(self) -> None:
        self.closed = True


class PictureDouble:
    """A decoded picture of 64x32, ``pitch`` bytes from row to row."""

    shape = (48, 64)

    def __init__(self, pitch: int) -> None:
        self._pitch = pitch

    def GetPtrToPlane(self, plane: int) -> int:
        return 4096

    def getPTS(self) -> int:
        return -1

    def cuda(self) -> list:
        return [SimpleNamespace(__cuda_array_interface__={"strides": (self._pitch, 1)})]


class NvdecDouble:
    """The decoders of no GPU; ``sessions`` are all that were ever made."""

    def __init__(self, answer: Callable[[bytes], list] = lambda data: []) -> None:
        self.answer = answer
        self.sessions: list[SessionDouble] = []
        self.idle: list[SessionDouble] = []
        self.surfaces = SimpleNamespace(copy=lambda cuda_stream, **planes: planes)

    def open(self, info: StreamInfo) -> NvdecDecoder:
        return NvdecDecoder(self, info, *kind_of(info))

    def session(self, kind: Kind) -> SessionDouble:
        return self.idle.pop() if self.idle else self.new_session(kind)

    def new_session(self, kind: Kind) -> SessionDouble:
        self.sessions.append(SessionDouble(kind, self.answer))
        return self.sessions[-1]

    def give_back(self, session: SessionDouble) -> None:
        self.idle.append(session)
