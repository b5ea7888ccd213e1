"""What NVDEC takes: codecs, sizes, bits; and what one of its decoders can be used for again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.decode.decoder import Picture
from pipeline.frame import Size, StreamInfo

_LAYOUTS: dict[str, tuple[Literal["nv12", "p010"], int]] = {  # FFmpeg's name -> ours, bits
    "yuv420p": ("nv12", 8),
    "yuvj420p": ("nv12", 8),
    "yuv420p10le": ("p010", 10),
}
_CODECS = {  # FFmpeg's name -> PyNvVideoCodec's, and the filter that makes what NVDEC reads
    "h264": ("H264", "h264_mp4toannexb"),
    "hevc": ("HEVC", "hevc_mp4toannexb"),
    "av1": ("AV1", None),
    "vp9": ("VP9", None),
    "vp8": ("VP8", None),
    "mpeg2video": ("MPEG2", None),
}
_LONGEST_SIDES = {"MPEG2": 4080}  # by NVIDIA's table; the other codecs have 4096 or more


class NvdecRefusedError(Exception):
    """NVDEC cannot take this stream; the text says why. Software can."""

    def __init__(self, reason: str, pictures: Sequence[Picture] = ()) -> None:
        super().__init__(reason)
        self.pictures = pictures
        """Those that came out before."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What an idle decoder can be used for again."""

    codec: str
    """PyNvVideoCodec's name."""
    layout: Literal["nv12", "p010"]
    bits: int
    size: Size
    """It keeps to the size that it began with, and scales pictures of another to it."""
    at_once: bool
    """Every picture comes out with its packet: for live streams without reordering."""

    @property
    def room(self) -> Size:
        """The largest pictures that its decoder is made for: codecs round sizes up to whole blocks."""
        width, height = (-(-side // 64) * 64 for side in self.size)
        most = _LONGEST_SIDES.get(self.codec, max(width, height))
        return Size(min(width, most), min(height, most))


def kind_of(info: StreamInfo) -> tuple[Kind, str | None]:
    """Return the decoder that a stream needs, and the bitstream filter before it, if any. Raises NvdecRefusedError."""
    context = getattr(info.template, "codec_context", None)
    if context is None or not hasattr(info.template, "time_base"):
        raise NvdecRefusedError("its packets come without a container")
    known = _CODECS.get(info.codec)
    if known is None:
        raise NvdecRefusedError(f"NVDEC does not decode {info.codec}")
    layout = _LAYOUTS.get(str(context.pix_fmt))
    if layout is None:
        raise NvdecRefusedError(f"its pictures are {context.pix_fmt}, not 4:2:0 of 8 or 10 bits")
    codec, bitstream_filter = known
    extra = bytes(context.extradata or b"")[:1]
    kind = Kind(codec, *layout, info.size, at_once=info.live and not context.has_b_frames)
    # A container's own packing begins with a version of 1; a stream's with start codes.
    return kind, bitstream_filter if extra == b"\x01" else None


def has_long_lengths(info: StreamInfo) -> bool:
    """Return whether 4 bytes of length precede each unit of the stream's packets, as nearly always in MP4."""
    extra = bytes(info.template.codec_context.extradata or b"")
    at = 4 if info.codec == "h264" else 21  # in avcC and hvcC
    return extra[:1] == b"\x01" and len(extra) > at and extra[at] & 3 == 3


def check_caps(caps: dict[str, Any], info: StreamInfo, gpu_name: str) -> None:
    """Raise NvdecRefusedError where a GPU with these abilities cannot take the stream."""
    width, height = info.size
    most = Size(int(caps.get("width_max") or 0), int(caps.get("height_max") or 0))
    least = Size(int(caps.get("width_min") or 0), int(caps.get("height_min") or 0))
    if not caps.get("num_decoder_engines") or not most.width:
        raise NvdecRefusedError(f"NVDEC of {gpu_name} does not decode {info.codec} of this kind")
    if width > most.width or height > most.height or width < least.width or height < least.height:
        raise NvdecRefusedError(f"it is {info.size}; NVDEC takes {info.codec} from {least} to {most}")
    blocks = int(caps.get("mb_num_max") or 0)
    if blocks and -(-width // 16) * -(-height // 16) > blocks:
        raise NvdecRefusedError(f"it is {info.size}; NVDEC takes {info.codec} of {blocks * 256} pixels at most")
