"""Movie files that hold fewer pictures than they say: one that was copied in part, and one that was trimmed."""

from __future__ import annotations

import struct
from pathlib import Path

import av

from pipeline.samples import find_sample

PICTURES = 500
"""That it says it holds."""


def cut_movie(path: Path, share: float) -> Path:
    """Write the first ``share`` of the bytes of the bundled clip to ``path``, its index first; return ``path``."""
    whole = _with_index_first(path)
    path.write_bytes(whole[: int(len(whole) * share)])
    return path


def trimmed_movie(path: Path) -> Path:
    """Write the bundled clip to ``path``, its second half left out by an edit list, as phones and editors do it."""
    whole = bytearray(_with_index_first(path))
    edits = whole.index(b"elst") + 4
    version, count = whole[edits], struct.unpack_from(">I", whole, edits + 4)[0]
    assert (version, count) == (0, 1)
    (duration,) = struct.unpack_from(">I", whole, edits + 8)
    struct.pack_into(">I", whole, edits + 8, duration // 2)
    path.write_bytes(whole)
    return path


def _with_index_first(path: Path) -> bytes:
    with (
        av.open(str(find_sample("street.mp4"))) as source,
        av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as target,
    ):
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)
    return path.read_bytes()
