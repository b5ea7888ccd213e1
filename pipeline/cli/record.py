"""``onpace record``: cameras' packets into files, with the times they came, for ``onpace run recording:FOLDER``."""

from __future__ import annotations

import json as json_format
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from pipeline.cli.process import seconds_of, set_up_logging, stop_on_signals
from pipeline.cli.targets import stream_ids
from pipeline.clock import monotonic
from pipeline.config.load import load_config
from pipeline.config.sections import Config, InferSection, StreamSection
from pipeline.errors import ConfigError
from pipeline.plan import StreamPlan, plan_stream
from pipeline.record.recorder import SegmentLimits, StreamRecorder

_LOOK_SECONDS = 0.1
_BYTES = {"kB": 10**3, "MB": 10**6, "GB": 10**9}


def record(
    targets: Annotated[
        list[str],
        typer.Argument(metavar="CONFIG | SOURCE…", help="A YAML configuration, or rtsp:// addresses, camera:0, files."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the recordings; each stream gets a folder in it.")],
    duration: Annotated[str | None, typer.Option("--for", help='Stop after so long: "10m", "1h".')] = None,
    segment: Annotated[str, typer.Option(help="Begin a new file after so long.")] = "5m",
    segment_size: Annotated[str, typer.Option(help="Begin a new file after so much: kB, MB, GB.")] = "1GB",
    json: Annotated[bool, typer.Option("--json", help="Print what was recorded as JSON, and nothing else.")] = False,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> int:
    """Keep cameras' packets with their arrival times, without decoding or encoding anything.

    [bold]Example:[/bold] onpace record rtsp://camera/1 --out recordings --for 10m, then
    onpace run recording:recordings/1 --realtime --model yolox.onnx
    """
    set_up_logging(log_level)
    seconds = seconds_of("--for", duration)
    limits = SegmentLimits(seconds_of("--segment", segment) or 0.0, _bytes_of(segment_size))
    recorders = [
        StreamRecorder(plan, _folder(out, plan.stream_id), limits, on_failure=lambda error: None)
        for plan in _plans(targets)
    ]
    _run(recorders, seconds)
    result = [_facts(recorder) for recorder in recorders]
    if json:
        typer.echo(json_format.dumps({"streams": result}, indent=2))
    else:
        for stream in result:
            typer.echo(
                f"{stream['id']}: {stream['packets']} packets in {stream['seconds']:.1f} s, "
                f"{stream['bytes'] / 1e6:.1f} MB, {stream['segments']} files, {stream['connections']} connections. "
                f"Play it: recording:{stream['folder']}"
            )
    return int(any(recorder.failed or recorder.error for recorder in recorders))


def _run(recorders: Sequence[StreamRecorder], seconds: float | None) -> None:
    """Record until every stream has ended, by itself, by signal or by time."""
    stopping = threading.Event()
    until = None if seconds is None else monotonic() + seconds
    with stop_on_signals(stopping.set):
        for recorder in recorders:
            recorder.start()
        while not all(recorder.join(_LOOK_SECONDS / len(recorders)) for recorder in recorders):
            if stopping.is_set() or (until is not None and monotonic() >= until):
                for recorder in recorders:
                    recorder.stop()


def _plans(targets: Sequence[str]) -> list[StreamPlan]:
    if len(targets) == 1 and targets[0].endswith((".yaml", ".yml")):
        config = load_config(Path(targets[0]))
    else:
        ids = stream_ids(targets)
        try:
            sections = [StreamSection(id=stream_id, url=url) for stream_id, url in zip(ids, targets, strict=True)]
            config = Config(streams=sections, infer=InferSection(model="none"))  # nothing is inferred
        except ValidationError:
            raise ConfigError(
                "an address is empty, or ends in what cannot name a stream. Use a configuration."
            ) from None
    return [plan_stream(section, config) for section in config.streams]


def _folder(out: Path, stream_id: str) -> Path:
    folder = out / stream_id
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out}: {error.strerror}. Give a folder that can be written.") from error
    return folder


def _bytes_of(size: str) -> int:
    match = re.fullmatch(r"(\d{1,6})(kB|MB|GB)", size)
    if match is None:
        raise ConfigError(f'--segment-size {size}: a size needs a unit: kB, MB or GB, as in "500MB".')
    return int(match[1]) * _BYTES[match[2]]


def _facts(recorder: StreamRecorder) -> dict[str, Any]:
    return {
        "id": recorder.plan.stream_id,
        "folder": str(recorder.folder),
        "packets": recorder.packets,
        "skipped": recorder.skipped,
        "bytes": recorder.bytes,
        "seconds": round(recorder.seconds, 3),
        "segments": recorder.segments,
        "connections": recorder.connections,
        "error": recorder.last_error,
    }
