"""Reads picture files, a folder or a glob of them, one picture a packet."""

from __future__ import annotations

import glob
import re
import threading
from collections.abc import Iterator
from pathlib import Path

from pipeline.decode.decoder import LARGEST_PICTURE, CorruptPacketError
from pipeline.decode.image import ImageDecoder
from pipeline.errors import Cause, SourceError
from pipeline.frame import Packet, Size, StreamInfo, size_of
from pipeline.source.address import PICTURE_SUFFIXES, Address
from pipeline.source.pace import Pace, packet_read_now
from pipeline.source.source import SourceOptions

_DEFAULT_FPS = 1.0
_LARGEST_FILE_BYTES = 1 << 29


class ImagesSource:
    """The pictures of a folder or glob, sorted as people count (2 before 10).

    Presentation times are one second apart unless the address ends in ``#fps=N``; ``options.realtime`` paces by them.
    """

    def __init__(self, address: Address, options: SourceOptions, stopping: threading.Event) -> None:
        self._address = address
        self._realtime = options.realtime
        self._stopping = stopping
        self._fps = address.fps or _DEFAULT_FPS
        self._paths: Iterator[tuple[int, Path]] | None = None
        self._pace: Pace | None = None

    def open(self) -> StreamInfo:
        """List the pictures. Raises SourceError (not found) when there are none."""
        paths = pictures_at(self._address.location)
        if not paths:
            raise SourceError(
                f"{self._address.redacted}: no pictures there. "
                f"Name a folder or glob of {', '.join(sorted(PICTURE_SUFFIXES))} files.",
                cause=Cause.NOT_FOUND,
            )
        self._paths = iter(enumerate(paths))
        self._pace = Pace(self._fps, self._stopping) if self._realtime else None
        info = StreamInfo(
            decoder="image",
            live=self._realtime,
            codec=paths[0].suffix[1:].lower(),
            size=Size(0, 0),
            declared_fps=self._fps,
        )
        return StreamInfo(info.decoder, info.live, info.codec, _size_of(paths[0], info), info.declared_fps)

    def read(self) -> Packet | None:
        """Return the next picture's bytes; None at the end."""
        index, path = next(self._paths, (0, None)) if self._paths is not None else (0, None)
        if path is None or self._stopping.is_set():
            return None
        pts_seconds = index / self._fps
        due = self._pace.wait(pts_seconds) if self._pace is not None else None
        if self._pace is not None and due is None:
            return None
        return packet_read_now(_bytes_of(path), pts_seconds, due)

    def close(self) -> None:
        """Forget the list. Closing twice is safe."""
        self._paths = None


def pictures_at(location: str) -> list[Path]:
    """Return the pictures of a folder, of a glob, or the one of that name, in the order in which people count."""
    folder = Path(location)
    candidates = list(folder.iterdir()) if folder.is_dir() else [folder] if folder.exists() else []
    if not candidates:
        candidates = [Path(name) for name in glob.iglob(location, recursive=True)]  # noqa: PTH207 (absolute globs)
    pictures = [path for path in candidates if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file()]
    return sorted(pictures, key=_as_people_count)


def _as_people_count(path: Path) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", str(path))
    return [(1, int(part), part) if part.isdecimal() else (0, 0, part) for part in parts]


def _bytes_of(path: Path) -> bytes:
    """Return the file's bytes; none where it cannot be read, which the decoder counts as a damaged packet."""
    try:
        return path.read_bytes() if path.stat().st_size <= _LARGEST_FILE_BYTES else b""
    except OSError:
        return b""


def _size_of(path: Path, info: StreamInfo) -> Size:
    decoder = ImageDecoder(info, 1, LARGEST_PICTURE)
    try:
        picture = decoder.decode(packet_read_now(_bytes_of(path), 0.0))[0]
    except CorruptPacketError:
        return Size(0, 0)
    finally:
        decoder.close()
    width, height = size_of(picture.planes)
    return Size(width, height)
