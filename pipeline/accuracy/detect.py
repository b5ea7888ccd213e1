"""Pictures to detections through the product's own decoder, preprocessing, runtime and head, one at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from engines.runtime import Slot
from pipeline.clock import monotonic, utc
from pipeline.decode.decoder import LARGEST_PICTURE
from pipeline.decode.image import ImageDecoder
from pipeline.detections import Detections
from pipeline.frame import Frame, Packet, Size, StreamInfo
from pipeline.postprocess.postprocess import Postprocess
from pipeline.preprocess.host import HostPreprocess


def detect(
    paths: Iterable[Path], slot: Slot, preprocess: HostPreprocess, postprocess: Postprocess
) -> Iterator[tuple[Frame, Detections]]:
    """Yield each picture and what is found in it. Raises CorruptPacketError for what is no picture, RunError."""
    decoder = ImageDecoder(StreamInfo("image", False, "image", Size(0, 0), None), 1, LARGEST_PICTURE)
    try:
        for index, path in enumerate(paths):
            frame = _read_frame(decoder, path, index)
            geometry = preprocess(frame, 0)
            yield frame, postprocess(slot.run(1), 0, geometry)
    finally:
        decoder.close()


def _read_frame(decoder: ImageDecoder, path: Path, index: int) -> Frame:
    now = monotonic()
    picture = decoder.decode(Packet(path.read_bytes(), float(index), now, now, utc(), "file"))[0]
    return Frame(
        stream_id=path.stem,
        epoch=0,
        index=index,
        planes=picture.planes,
        colour=picture.colour,
        rotation=picture.rotation,
        pts_seconds=float(index),
        received_at=now,
        captured_at=now,
        capture_utc=utc(),
        capture_clock="file",
        decoded_at=monotonic(),
        owner=picture.owner,
    )
