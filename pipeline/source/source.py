"""The protocol of every source, and the table that finds one by its URL scheme."""

from __future__ import annotations

import importlib
import threading
from dataclasses import dataclass
from typing import Literal, Protocol

from pipeline.errors import UrlError
from pipeline.frame import Packet, StreamInfo

SOURCES: dict[str, str] = {  # URL scheme -> "module:Class", imported on first use
    "file": "pipeline.source.file:FileSource",
    "rtsp": "pipeline.source.rtsp:RtspSource",
    "rtsps": "pipeline.source.rtsp:RtspSource",
    "camera": "pipeline.source.camera:CameraSource",
    "images": "pipeline.source.images:ImagesSource",
    "pattern": "pipeline.source.pattern:PatternSource",
    "recording": "pipeline.source.recording:RecordingSource",
}


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What a source needs besides its address. Plain data."""

    realtime: bool = False
    """Files, images, patterns: deliver at the pace of their timestamps, as a live camera would."""
    transport: Literal["tcp", "udp"] = "tcp"
    """RTSP: how media travels."""
    open_timeout_seconds: float = 5.0
    read_timeout_seconds: float = 3.0
    """Longest silence of an open stream before it counts as stalled."""
    username: str | None = None
    password: str | None = None
    """Credentials kept apart from the URL; they win over those in it."""
    video_track: int = 0
    """Which video stream of a file that has several."""


class Source(Protocol):
    """One connection to one stream.

    Passive: starts no thread, keeps no queue, never retries. Not thread-safe. ``open`` once, ``read`` until it returns
    None (the end) or raises SourceError, ``close`` always (closing twice is safe). Reading may wait; it returns within
    the read timeout, and promptly once ``stopping`` is set.
    """

    def open(self) -> StreamInfo:
        """Connect. Raises SourceError with the cause that decides how it is retried."""

    def read(self) -> Packet | None:
        """Return the next coded picture of the chosen video track; None at the end of a file."""

    def close(self) -> None:
        """Disconnect."""


def open_source(url: str, options: SourceOptions, stopping: threading.Event) -> Source:
    """Return the (unopened) source for ``url``.

    Raises UrlError for a scheme that is not allowed. Only the schemes of ``SOURCES`` are ever opened; a plain path is
    a file, a folder or a glob of pictures.
    """
    from pipeline.source.address import parse_address

    address = parse_address(url)
    target = SOURCES.get(address.scheme)
    if target is None:
        raise UrlError(f"{address.redacted}: scheme '{address.scheme}' is not allowed. Allowed: {', '.join(SOURCES)}.")
    module_name, class_name = target.split(":")
    source: Source = getattr(importlib.import_module(module_name), class_name)(address, options, stopping)
    return source
