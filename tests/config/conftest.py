from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config.load import load
from pipeline.config.problem import InvalidConfig, Problem

Check = Callable[..., list[Problem]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which ``model.onnx`` and ``clip.mp4`` exist. Nothing opens them."""
    (tmp_path / "model.onnx").write_bytes(b"model")
    (tmp_path / "clip.mp4").write_bytes(b"clip")
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
