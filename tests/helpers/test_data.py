"""Finds the test videos, models and pictures, which are too large for the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_BESIDE_THE_REPOSITORY = Path(__file__).resolve().parents[3] / "shared" / "data"


def test_data() -> Path:
    """Return the folder of the test data (``ONPACE_TEST_DATA``), or skip the test that asks."""
    folder = data_folder()
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}; set ONPACE_TEST_DATA to the folder that holds videos/ and models/")
    return folder


def data_folder() -> Path:
    """Return where the test data should be, there or not: for parameters, which are made before any test can skip."""
    return Path(os.environ.get("ONPACE_TEST_DATA", _BESIDE_THE_REPOSITORY))


test_data.__test__ = False  # type: ignore[attr-defined]
