from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config.load import load
from pipeline.config.problem import InvalidConfig, Problem

CLIP = Path(__file__).parents[2] / "samples/street.mp4"
Check = Callable[..., list[Problem]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which ``model.onnx``, which nothing opens, and ``clip.mp4``, which plays, exist."""
    (tmp_path / "model.onnx").write_bytes(b"model")
    (tmp_path / "clip.mp4").symlink_to(CLIP)
    return tmp_path


@pytest.fixture
def problems_of(folder: Path) -> Check:
    """Write a configuration and return every problem that loading it reports."""

    def check(text: str, **env: str) -> list[Problem]:
        path = folder / "cameras.yaml"
        path.write_text(text)
        try:
            load(path, env=env)
        except InvalidConfig as error:
            assert str(error).splitlines() == [str(problem) for problem in error.problems]
            return list(error.problems)
        return []

    return check
