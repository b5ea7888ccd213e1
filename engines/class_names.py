"""Class names: from what exporters embed, from a file, or numbers."""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from pathlib import Path

from engines.errors import ModelError

COCO_NAMES: tuple[str, ...] = tuple(
    """person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,
    parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,
    suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,
    tennis racket,bottle,wine glass,cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,
    hot dog,pizza,donut,cake,chair,couch,potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,
    cell phone,microwave,oven,toaster,sink,refrigerator,book,clock,vase,scissors,teddy bear,hair drier,
    toothbrush""".replace("\n    ", "").split(",")
)
"""The 80 classes of COCO detection in the order of every YOLO exporter."""


def numbered(count: int) -> tuple[str, ...]:
    """Return "0" to "count - 1": the names of classes that nobody named."""
    return tuple(str(index) for index in range(count))


def parse_names(text: str) -> tuple[str, ...]:
    """Return the names in an exporter's metadata: a Python or JSON mapping or list, or one name a line or comma.

    Ids that a mapping leaves out are named by their number. Raises ModelError for anything else.
    """
    value = _literal(text.strip())
    if isinstance(value, dict):
        try:
            by_id = {int(key): str(name) for key, name in value.items()}
        except (TypeError, ValueError):
            raise ModelError(f"class names must be numbered from 0, got {text[:80]!r}") from None
        if not by_id or min(by_id) < 0 or max(by_id) > 100_000:
            raise ModelError(f"class names must be numbered from 0, got {text[:80]!r}")
        return tuple(by_id.get(index, str(index)) for index in range(max(by_id) + 1))
    if isinstance(value, list | tuple):
        return tuple(str(name) for name in value)
    names = [name.strip() for name in text.replace(",", "\n").splitlines()]
    return tuple(name for name in names if name)


def named_by(value: object, folder: Path) -> tuple[str, ...] | int:
    """Return the names an override asks for: "coco", a list or mapping, a file of names, or only their count.

    A file is looked for in ``folder`` unless its path is absolute. Raises ModelError.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    if isinstance(value, dict):
        return parse_names(repr(dict(value)))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(str(name) for name in value)
    if value == "coco":
        return COCO_NAMES
    if isinstance(value, str):
        file = folder / value
        try:
            return tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
        except (OSError, UnicodeError) as error:
            raise ModelError(f"classes: cannot read names from {file}: {error}. Allowed: {_ALLOWED}.") from error
    raise ModelError(f"classes: got {value!r}. Allowed: {_ALLOWED}.")


_ALLOWED = '"coco", a list of names, a file with one name a line, or the number of classes'


def _literal(text: str) -> object:
    if text[:1] not in "[{(":
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            value: object = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return value
    return None
