"""What the command line's targets become: stream ids that are valid, distinct, and hold no password."""

from __future__ import annotations

import pytest

from pipeline.cli.targets import config_of
from pipeline.config.sections import Config
from pipeline.errors import ConfigError
from tests.cli.onpace_command import ROOT

PASSWORD = "s3cret-w0rd"


def configured(*targets: str, model: str | None = "sample:street.onnx") -> Config:
    return config_of(targets, model=model, facts={}, runtime=None, sinks=[], realtime=False, loop=False)


def ids(*targets: str) -> list[str]:
    return [stream.id for stream in configured(*targets).streams]


@pytest.mark.parametrize(
    ("url", "stream_id"),
    [
        (f"rtsp://admin:{PASSWORD}@10.0.0.5", "10.0.0.5"),
        (f"rtsp://admin:{PASSWORD}@10.0.0.5:8554/", "10.0.0.5"),
        (f"rtsp://10.0.0.5/user=admin&password={PASSWORD}&channel=1.sdp", "10.0.0.5"),
        (f"rtsp://admin:{PASSWORD}@lobby.local/live/main.sdp?token={PASSWORD}", "main"),
        (f"rtsp://lobby.local/live?password={PASSWORD}/x", "live"),
    ],
)
def test_a_stream_is_never_named_by_its_password(url: str, stream_id: str) -> None:
    assert ids(url) == [stream_id]


def test_a_forgotten_model_is_asked_for_without_printing_the_password() -> None:
    with pytest.raises(ConfigError, match="--model") as caught:
        configured(f"rtsp://admin:{PASSWORD}@10.0.0.5/live", model=None)
    assert PASSWORD not in str(caught.value)


def test_files_of_any_name_can_be_run(tmp_path) -> None:
    clip = (ROOT / "samples/street.mp4").read_bytes()
    paths = [
        tmp_path / "b" / "x.mp4",
        *(tmp_path / name for name in ("x.mp4", "x-1.mp4", "Stra\u00dfe \u00e9t\u00e9.mp4", "_a.mp4", "\u8857.mp4")),
    ]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(clip)
    assert ids(*map(str, paths)) == ["x-2", "x-3", "x-1", "Strae-ete", "a", "stream"]
