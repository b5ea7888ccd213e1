"""Picks the video track of a PyAV container and says what it is."""

from __future__ import annotations

from typing import Any

from pipeline.errors import Cause, SourceError
from pipeline.frame import Size, StreamInfo


def choose_video(container: Any, track: int, shown: str) -> Any:
    """Return the container's video stream number ``track``, cover pictures not counted."""
    attached = getattr(_disposition(), "attached_pic", None)
    streams = [
        stream for stream in container.streams.video if not (attached is not None and stream.disposition & attached)
    ]
    if not streams:
        raise SourceError(f"{shown}: holds no video. Name a file or stream with pictures.", cause=Cause.UNSUPPORTED)
    if track >= len(streams):
        raise SourceError(
            f"{shown}: video_track {track} does not exist. Allowed: 0 to {len(streams) - 1}.", cause=Cause.UNSUPPORTED
        )
    stream = streams[track]
    if stream.codec_context is None:
        raise SourceError(f"{shown}: no decoder for this video's codec.", cause=Cause.UNSUPPORTED)
    return stream


def describe(stream: Any, *, live: bool) -> StreamInfo:
    """Return what is known of a PyAV video stream."""
    context = stream.codec_context
    # PyAV 19 has a falsy 0/1 where 17 and 18 have None.
    rate = stream.average_rate or stream.guessed_rate
    fps = float(rate) if rate else 0.0
    return StreamInfo(
        decoder="pyav",
        live=live,
        codec=context.codec.canonical_name,
        size=Size(context.width, context.height),
        declared_fps=fps if 0.0 < fps <= 1000.0 else None,
        template=stream,
    )


def _disposition() -> Any:
    from av import stream

    return getattr(stream, "Disposition", None)
