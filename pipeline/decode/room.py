"""How much of a GPU's memory the streams take that are decoded there."""

from __future__ import annotations

import logging

from engines.device import Gpu
from engines.runtime import DeviceSlot
from pipeline.config.sections import DecodeSection
from pipeline.decode.nvdec import Nvdec, open_nvdec

_DECODER_BYTES = 68 << 20
"""NVDEC's own for one stream of 1920x1080 in HEVC, as seen on an H100; in H.264 it is 42 MiB."""
_PICTURE_BYTES = 1920 * 1088 * 3 // 2
_BESIDE_THE_QUEUE = 3
"""Pictures of a stream that are in a batch or just being copied."""

_log = logging.getLogger("onpace.decode")


def stream_bytes(decode: DecodeSection) -> int:
    """Return what one stream of 1920x1080 takes on the GPU: its decoder and its pictures; 0 where it is not there."""
    if decode.device == "cpu":
        return 0
    return _DECODER_BYTES + (decode.queue_frames + _BESIDE_THE_QUEUE) * _PICTURE_BYTES


def open_decoding(slot: DeviceSlot | None, decode: DecodeSection, streams: int) -> Nvdec | None:
    """Return what decodes beside ``slot``, and say where not all streams may fit there. As ``open_nvdec``."""
    nvdec = open_nvdec(slot.gpu if slot is not None else None, decode.device)
    if nvdec is not None:
        warn_where_tight(nvdec.gpu, streams, decode)
    return nvdec


def warn_where_tight(gpu: Gpu, streams: int, decode: DecodeSection) -> None:
    """Say how many streams fit, where not all may: smaller pictures take less, so none is refused for it here."""
    free, each = gpu.free_bytes(), stream_bytes(decode)
    if streams * each > free:
        _log.warning(
            "GPU %d (%s) has %d MiB free: enough to decode about %d streams of 1920x1080 there, and there are %d. What "
            "does not fit is decoded in software. A smaller infer.batch_size or decode.queue_frames leaves more.",
            gpu.index,
            gpu.name,
            free >> 20,
            free // each,
            streams,
        )
