"""Where what was made from a model is kept: typed models, plans."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return ``$ONPACE_CACHE``, else ``$XDG_CACHE_HOME/onpace``, else ``~/.cache/onpace``; it may not exist yet."""
    stated = os.environ.get("ONPACE_CACHE")
    if stated:
        return Path(stated)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "onpace"
