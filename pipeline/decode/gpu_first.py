"""Decodes on the GPU what NVDEC takes, and in software what it refuses: for each stream on its own."""

from __future__ import annotations

import logging
from collections.abc import Callable

from engines.cores import roam
from engines.errors import DeviceMemoryError
from pipeline.decode.decoder import Decoder, Picture
from pipeline.decode.nvdec import Nvdec
from pipeline.decode.nvdec_kind import NvdecRefusedError
from pipeline.frame import Packet, StreamInfo


class GpuFirst:
    """Opens a stream's decoders; remembers what it said of them, so that it is said once."""

    def __init__(self, nvdec: Nvdec, log: logging.Logger) -> None:
        self.nvdec = nvdec
        self._log = log
        self._told: set[str] = set()

    def open(self, info: StreamInfo, software: Callable[[], Decoder]) -> Decoder:
        """Return a decoder of the stream that falls back to ``software()`` where NVDEC refuses it."""
        return _FallingBack(self, info, software)

    def refused(self, reason: str) -> None:
        """Say why this stream is decoded in software."""
        if reason not in self._told:
            self._told.add(reason)
            self._log.warning("decoding in software: %s", reason)


class _FallingBack:
    """A ``Decoder``: NVDEC's until it refuses, then software for the rest of the connection, on all cores."""

    def __init__(self, gpu_first: GpuFirst, info: StreamInfo, software: Callable[[], Decoder]) -> None:
        self._gpu_first = gpu_first
        self._software = software()  # before anybody decodes: it says with which threads and limits
        self._decoder: Decoder
        self._before: list[Picture] = []
        """NVDEC's last ones, until software takes a packet."""
        try:
            self._decoder = gpu_first.nvdec.open(info)
        except (NvdecRefusedError, DeviceMemoryError) as error:
            self._fall_back(error)

    def decode(self, packet: Packet) -> list[Picture]:
        """Return the pictures now ready, in presentation order. Empty while the codec reorders."""
        try:
            return self._with_those_before(self._decoder.decode(packet))
        except (NvdecRefusedError, DeviceMemoryError) as error:
            self._decoder.close()
            self._fall_back(error)
            self._before = list(error.pictures) if isinstance(error, NvdecRefusedError) else []
            return self._with_those_before(self._decoder.decode(packet))

    def drain(self) -> list[Picture]:
        """Return the pictures still held back. Call once, at the end of the stream."""
        try:
            return self._with_those_before(self._decoder.drain())
        except (NvdecRefusedError, DeviceMemoryError) as error:  # the end is too late for another decoder
            self._gpu_first.refused(str(error))
            return []

    def close(self) -> None:
        """Give the decoders' buffers back. Closing twice is safe."""
        self._before.clear()
        self._decoder.close()
        self._software.close()

    def _with_those_before(self, pictures: list[Picture]) -> list[Picture]:
        before, self._before = self._before, []
        return before + pictures if before else pictures

    def _fall_back(self, error: NvdecRefusedError | DeviceMemoryError) -> None:
        self._gpu_first.refused(str(error))
        roam()  # software decodes beside Python's lock
        self._decoder = self._software
