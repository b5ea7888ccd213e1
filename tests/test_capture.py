"""A connection's pictures: all accounted for, on a clock that only goes forwards."""

from __future__ import annotations

import threading
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from pipeline.bounded_queue import BoundedQueue
from pipeline.capture import Capture, CaptureLimits, StreamContext
from pipeline.decode.decoder import open_decoder
from pipeline.errors import SourceError
from pipeline.frame import Frame
from pipeline.keepup.load import BusyClock
from pipeline.keepup.meter import StreamMeter
from pipeline.keepup.settings import KeepupSettings
from pipeline.source.source import SourceOptions, open_source


def context_of(*, max_pixels: int = 1 << 24, stall_seconds: float = 3.0) -> StreamContext:
    queue: BoundedQueue[Frame] = BoundedQueue(1000, "drop_oldest")
    meter = StreamMeter("stream", KeepupSettings(), live=False)
    return StreamContext("stream", queue, meter, BusyClock(), CaptureLimits(max_pixels, stall_seconds))


def capture(context: StreamContext, url: str, *, realtime: bool = False, stop_at_first: bool = False) -> list[Frame]:
    """Play ``url`` to its end; return its frames."""
    source = open_source(url, SourceOptions(realtime=realtime), threading.Event())
    try:
        info = source.open()
        first = context.stopping.set if stop_at_first else lambda: None
        Capture(context, 1, info, source, open_decoder(info, 2), first).play()
    finally:
        source.close()
    return [frame for frame in (context.queue.take(0) for _ in range(len(context.queue))) if frame is not None]


def test_a_picture_that_is_refused_is_accounted_for() -> None:
    context = context_of(max_pixels=5000)
    with pytest.raises(SourceError, match="max_pixels"):
        capture(context, "pattern:?size=128x128&frames=3")
    ledger = context.meter.ledger.snapshot()
    assert (ledger.received, ledger.in_flight_total, ledger.dropped_total) == (1, 0, 1)


def test_frame_indices_count_what_the_decoder_still_held_at_the_end() -> None:
    context = context_of()
    frames = capture(context, "sample:street.mp4", stop_at_first=True)
    ledger = context.meter.ledger.snapshot()
    assert ledger.received > len(frames)
    assert ledger.in_flight["decode"] == 0
    assert next(context.frame_indices) == ledger.received


def test_a_clock_that_begins_again_goes_on_by_one_step(tmp_path) -> None:
    clip = tmp_path / "clip.ts"
    write_clip(clip, seconds=4)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(clip.read_bytes() * 2)
    times = [frame.pts_seconds for frame in capture(context_of(), str(joined))]
    assert len(times) == 200
    assert np.diff(times) == pytest.approx(np.full(199, 0.04), abs=0.001)


def test_a_damaged_picture_among_slow_ones_is_no_end(tmp_path) -> None:
    for name in ("1", "3"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((64, 64, 3), np.uint8))
    (tmp_path / "2.png").write_bytes(b"nothing")
    frames = capture(context_of(stall_seconds=0.1), f"images:{tmp_path}#fps=4", realtime=True)
    assert [frame.index for frame in frames] == [0, 2]


def write_clip(path, seconds: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.max_b_frames = 0
        stream.time_base = Fraction(1, 25)
        for number in range(25 * seconds):
            frame = av.VideoFrame.from_ndarray(np.full((96, 64), number, np.uint8), "yuv420p")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
