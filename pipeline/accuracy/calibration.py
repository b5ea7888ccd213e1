"""Calibration pictures for int8: some of the user's own, spread over what they give, prepared as the pipeline does."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.model_spec import ModelSpec
from engines.precision.ranges import Method
from engines.precision.typed_model import Calibration
from pipeline.accuracy.picture import frame_of
from pipeline.decode.decoder import CorruptPacketError, Decoder, Picture, open_decoder
from pipeline.errors import CutOffError, InputError, SourceError, UrlError
from pipeline.frame import Packet
from pipeline.preprocess.host import HostPreprocess
from pipeline.record.times import TIMES_SUFFIX
from pipeline.source.address import Address, parse_address
from pipeline.source.images import pictures_at
from pipeline.source.redact import redact
from pipeline.source.source import Source, SourceOptions, open_source

PICTURES = Calibration.pictures
METHOD = Calibration.method

_KEPT = frozenset({"file", "images", "recording"})


def calibration_from(
    sources: Sequence[str], spec: ModelSpec, pictures: int = PICTURES, method: Method = METHOD
) -> Calibration | None:
    """Return ``pictures`` calibration pictures for ``spec`` from videos, picture folders or globs, and recordings.

    ``method``: what is made of them, as in ``engines.precision.ranges``.

    None without sources. Nothing is decoded before the pictures are asked for. Raises InputError for a source that is
    no file, or not there.
    """
    if not sources:
        return None
    addresses = [calibration_address(source) for source in sources]
    tensors = _Pictures(sources, spec, pictures)
    return Calibration(tensors, _digest(addresses, spec, pictures), method, pictures=pictures)


def calibration_address(source: str) -> Address:
    """Return where ``source`` lies. Raises InputError for what is no file, or not there."""
    try:
        address = parse_address(source)
    except UrlError as error:
        raise InputError(f"calibration: {error}") from error
    if address.scheme not in _KEPT:
        raise InputError(
            f"calibration {address.redacted}: allowed are videos, folders or globs of pictures, and recordings. "
            "Record a camera first: onpace record URL --out FOLDER --for 60s."
        )
    if not _files(address):
        if address.scheme != "images":
            raise InputError(f"calibration {address.redacted}: no such file. Check the path.")
        recordings = sorted({file.parent for file in Path(address.location).glob(f"**/*{TIMES_SUFFIX}")})
        remedy = f"It holds a recording: write recording:{recordings[0]}." if recordings else "Check the path."
        raise InputError(f"calibration {address.redacted}: no pictures there. {remedy}")
    return address


def _files(address: Address) -> list[Path]:
    path = Path(address.location)
    if address.scheme == "images":
        return pictures_at(address.location)
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    return [path] if path.is_file() else []


def _digest(addresses: Sequence[Address], spec: ModelSpec, pictures: int) -> str:
    """Return what changes when files, or how they are prepared, change. Videos are large: time and size stand in."""
    digest = hashlib.sha256(f"{pictures} {spec.pixels} {spec.input_width} {spec.input_height}".encode())
    for address in addresses:
        for file in _files(address):
            stat = file.stat()
            digest.update(f"{address.scheme} {file.resolve()} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


class _Pictures:
    """The prepared pictures, each float32 ``[1, 3, H, W]``; decoded again each time they are gone through."""

    def __init__(self, sources: Sequence[str], spec: ModelSpec, pictures: int) -> None:
        self._sources = sources
        self._spec = spec
        self._pictures = pictures

    def __length_hint__(self) -> int:
        """So many are looked for; short videos have fewer."""
        return self._pictures

    def __iter__(self) -> Iterator[NDArray[Any]]:
        tensor = np.zeros((1, 3, self._spec.input_height, self._spec.input_width), np.float32)
        preprocess = HostPreprocess(self._spec, tensor)
        share, extra = divmod(self._pictures, len(self._sources))
        number = count()
        for place, source in enumerate(self._sources):
            for picture in _spread(source, share + (place < extra)):
                preprocess(frame_of(picture, "calibration", next(number)), 0)
                yield tensor.copy()


def _spread(url: str, wanted: int) -> Iterator[Picture]:
    """Yield up to ``wanted`` pictures at even distances: keyframes where there are enough, which saves decoding all."""
    if not wanted:
        return
    try:
        keyframes = [getattr(packet.payload, "is_keyframe", True) for packet in _packets(url)]
        places = [place for place, is_key in enumerate(keyframes) if is_key]
        if len(places) >= wanted:
            chosen = {places[place] for place in evenly(len(places), wanted)}
            pictures = _decoded(url, chosen)
        else:
            chosen = set(evenly(len(keyframes), wanted))
            pictures = (picture for place, picture in enumerate(_decoded(url, None)) if place in chosen)
        found = 0
        for picture in pictures:
            found += 1
            yield picture
    except SourceError as error:
        raise InputError(f"calibration: {error}") from error
    if not found:
        raise InputError(f"calibration {redact(url)}: no picture in it can be decoded.")


def evenly(total: int, wanted: int) -> list[int]:
    """Return up to ``wanted`` of the numbers 0 to ``total - 1``: the middles of as many equal parts."""
    parts = min(total, wanted)
    return [(2 * part + 1) * total // (2 * parts) for part in range(parts)]


def _packets(url: str) -> Iterator[Packet]:
    source = open_source(url, SourceOptions(), threading.Event())
    try:
        source.open()
        yield from _read(source)
    finally:
        source.close()


def _read(source: Source) -> Iterator[Packet]:
    with suppress(CutOffError):  # what there is will do
        while (packet := source.read()) is not None:
            yield packet


def _decoded(url: str, chosen: set[int] | None) -> Iterator[Picture]:
    """Yield the pictures of the packets numbered ``chosen``, which need no other; of all where it is None."""
    source = open_source(url, SourceOptions(), threading.Event())
    try:
        decoder = open_decoder(source.open(), None)  # not by the machine's cores: a cut file loses a picture a thread
        try:
            for place, packet in enumerate(_read(source)):
                if chosen is None or place in chosen:
                    yield from _decode(decoder, packet)
            yield from decoder.drain()
        finally:
            decoder.close()
    finally:
        source.close()


def _decode(decoder: Decoder, packet: Packet) -> list[Picture]:
    try:
        return decoder.decode(packet)
    except CorruptPacketError:
        return []
