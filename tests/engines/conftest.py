"""What several tests of the engines need."""

from __future__ import annotations

import pytest


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """A cache folder that no other test has written to."""
    monkeypatch.setenv("ONPACE_CACHE", str(tmp_path / "cache"))
