"""What ``onpace run`` is pointed at: a configuration file, or sources and a model on the command line."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path, PurePosixPath

from pipeline.config.load import config_from_mapping, load_config
from pipeline.config.sections import Config
from pipeline.errors import ConfigError, UrlError
from pipeline.samples import find_sample
from pipeline.source.address import parse_address
from pipeline.source.redact import redact

_LONGEST_NAME = 48


def config_of(
    targets: Sequence[str],
    *,
    model: str | None,
    facts: Mapping[str, object],
    runtime: str | None,
    sinks: Sequence[str],
    realtime: bool,
    loop: bool,
) -> Config:
    """Return the configuration that the command line asks for. Raises ConfigError."""
    if len(targets) == 1 and targets[0].endswith((".yaml", ".yml")):
        if model or facts or sinks or realtime or loop:
            options = "--model, --set, --sink, --realtime and --loop"
            raise ConfigError(f"{targets[0]} is a configuration: {options} belong in it.")
        path = config_file_of(targets)
        assert path is not None
        config = load_config(path)
        if runtime is None:
            return config
        return config.model_copy(update={"infer": config.infer.model_copy(update={"runtime": runtime})})
    for target in targets:
        if target.endswith((".yaml", ".yml")):
            raise ConfigError(f"{target} is a configuration and runs alone: write the other sources into its streams.")
    if model is None:
        shown = redact(targets[0])
        raise ConfigError(f"{shown}: give a detector with --model FILE.onnx, or a configuration ending in .yaml.")
    streams = [
        {"id": stream_id, "url": url, "realtime": realtime, "loop": loop}
        for stream_id, url in zip(stream_ids(targets), targets, strict=True)
    ]
    infer = {"model": model, "facts": dict(facts), **({"runtime": runtime} if runtime else {})}
    mapping = {"streams": streams, "infer": infer, "publish": {"sinks": list(sinks)}}
    return config_from_mapping(mapping, origin="command line")


def config_file_of(targets: Sequence[str]) -> Path | None:
    """Return the configuration file that the command line names; None for sources."""
    if len(targets) == 1 and targets[0].endswith((".yaml", ".yml")):
        return find_sample(targets[0]) if targets[0].startswith("sample:") else Path(targets[0])
    return None


def stream_ids(urls: Sequence[str]) -> list[str]:
    """Name streams by what tells them apart: the last part of the address, numbered where that repeats."""
    names = [_plain(_last_part(url)) for url in urls]
    taken = {name for name in names if names.count(name) == 1}
    ids = []
    for name in names:
        if names.count(name) == 1:
            ids.append(name)
            continue
        stream_id = next(f"{name}-{number}" for number in count(1) if f"{name}-{number}" not in taken)
        taken.add(stream_id)
        ids.append(stream_id)
    return ids


def _last_part(url: str) -> str:
    """Return the last part of the address without its suffix; never of a part that can hold a user or a password."""
    if url.lower().startswith(("rtsp:", "rtsps:")):
        try:
            address = parse_address(url)
        except UrlError:  # the configuration's checks say what is wrong with it
            return ""
        host, path = address.host or "", address.location.partition("?")[0].partition("#")[0]
        last = path.rstrip("/").rpartition("/")[2]
        # Some cameras take the password in the path: /user=a&password=b&channel=1.sdp
        return PurePosixPath(last).stem if last and not set(last) & set("=&@:;") else host
    last = url.rstrip("/").rpartition("/")[2].partition("?")[0]
    last = last.removeprefix("sample:").removeprefix("file:").removeprefix("images:").removeprefix("recording:")
    return PurePosixPath(last).stem if PurePosixPath(last).suffix else last


def _plain(text: str) -> str:
    """Return ``text`` as a stream id: accents fall off, and what is no letter, digit, '_', '.' or '-' becomes '-'."""
    letters = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode() or text
    name = "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "-" for c in letters)
    return name.strip("-._")[:_LONGEST_NAME] or "stream"
