"""What ``onpace run`` is pointed at: a configuration file, or sources and a model on the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from pipeline.config.load import config_from_mapping, load_config
from pipeline.config.sections import Config
from pipeline.errors import ConfigError
from pipeline.samples import find_sample


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
        path = find_sample(targets[0]) if targets[0].startswith("sample:") else Path(targets[0])
        config = load_config(path)
        if runtime is None:
            return config
        return config.model_copy(update={"infer": config.infer.model_copy(update={"runtime": runtime})})
    for target in targets:
        if target.endswith((".yaml", ".yml")):
            raise ConfigError(f"{target} is a configuration and runs alone: write the other sources into its streams.")
    if model is None:
        raise ConfigError(f"{targets[0]}: give a detector with --model FILE.onnx, or a configuration ending in .yaml.")
    streams = [
        {"id": stream_id, "url": url, "realtime": realtime, "loop": loop}
        for stream_id, url in zip(stream_ids(targets), targets, strict=True)
    ]
    infer = {"model": model, "facts": dict(facts), **({"runtime": runtime} if runtime else {})}
    mapping = {"streams": streams, "infer": infer, "publish": {"sinks": list(sinks)}}
    return config_from_mapping(mapping, origin="command line")


def stream_ids(urls: Sequence[str]) -> list[str]:
    """Name streams by what tells them apart: the last part of the address, numbered where that repeats."""
    names = []
    for url in urls:
        last = url.rstrip("/").rpartition("/")[2].partition("?")[0]
        last = last.removeprefix("sample:").removeprefix("file:").removeprefix("images:").removeprefix("recording:")
        stem = PurePosixPath(last).stem if PurePosixPath(last).suffix else last
        name = "".join(c if c.isalnum() or c in "_.-" else "-" for c in stem).strip("-.") or "stream"
        names.append(name[:48])
    return [name if names.count(name) == 1 else f"{name}-{number + 1}" for number, name in enumerate(names)]
