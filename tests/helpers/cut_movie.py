"""A movie file that was copied in part: it says at its beginning how many pictures it holds, and holds fewer."""

from __future__ import annotations

from pathlib import Path

import av

from pipeline.samples import find_sample

PICTURES = 500
"""That it says it holds."""


def cut_movie(path: Path, share: float) -> Path:
    """Write the first ``share`` of the bytes of the bundled clip to ``path``, its index first; return ``path``."""
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
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    return path
