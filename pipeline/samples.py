"""Finds the bundled demo's files: inside an installed package, or in a checkout."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import UrlError

_PACKAGE = Path(__file__).resolve().parent
_FOLDERS = (_PACKAGE / "sample_data", _PACKAGE.parent / "samples", _PACKAGE.parent / "configs")
_SUFFIXES = frozenset({".mp4", ".onnx", ".yaml", ".json", ".jpg", ".png"})


def find_sample(name: str) -> Path:
    """Return the path of the bundled file ``name`` or ``sample:name``. Raises UrlError, naming the files that exist."""
    name = name.removeprefix("sample:")
    plain = name not in ("", ".", "..") and not set(name) & set("/\\\0")
    for folder in _FOLDERS if plain else ():
        if (folder / name).is_file():
            return folder / name
    raise UrlError(f"sample:{name!r:.80}: no such sample. Bundled: {', '.join(_existing()) or 'none'}.")


def find_model(model: str) -> Path:
    """Return the path that a configuration's ``infer.model`` names: a path as it is, or ``sample:NAME``."""
    return find_sample(model) if model.startswith("sample:") else Path(model)


def _existing() -> list[str]:
    return sorted(
        {
            path.name
            for folder in _FOLDERS
            if folder.is_dir()
            for path in folder.iterdir()
            if path.suffix in _SUFFIXES and path.is_file()
        }
    )
