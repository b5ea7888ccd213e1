"""Opens the sinks that a configuration names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.publish.curve import PublisherKeys
from pipeline.publish.sink import Sink, open_sink

if TYPE_CHECKING:
    from pipeline.config.sections import PublishSection


def open_sinks(section: PublishSection) -> list[Sink]:
    """Open all of them. Raises UrlError and InputError where one cannot be used."""
    curve = section.curve
    keys = PublisherKeys.load(Path(curve.keys), Path(curve.allow)) if curve else None
    return [open_sink(address, section.encoding, keys) for address in section.sinks]
