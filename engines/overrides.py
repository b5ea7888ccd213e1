"""What a user may state about a model, checked: the keys of the YAML beside a model and of the configuration.

==================  ===================================================================================
family              which head reads the outputs
classes             "coco", a list of names, a file with one name a line, or the number of classes
input_size          640, or [width, height], where the file leaves them open
rows                candidates: one candidate a row; channels: one candidate a column
strides             [8, 16, 32]: the grids of a raw head, finest first
columns             [x1, y1, x2, y2, score, class]: the order of finished boxes; 'batch' tells pictures apart
pixels.order        rgb or bgr
pixels.scale        0.00392157 (1/255) for 0-1 models, 1 for 0-255 models
pixels.mean         [red, green, blue], or in the order of the model, in scaled units
pixels.deviation    the same
pixels.placement    centre, top_left or stretch
pixels.pad_value    0-255
==================  ===================================================================================
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import yaml

from engines.errors import ModelError
from engines.model_spec import Family

ORDERS = ("rgb", "bgr")
PLACEMENTS = ("centre", "top_left", "stretch")
COLUMNS = ("batch", "x1", "y1", "x2", "y2", "score", "class")
ROWS = ("candidates", "channels")
PIXEL_KEYS = ("order", "scale", "mean", "deviation", "placement", "pad_value")
KEYS = ("family", "classes", "input_size", "rows", "strides", "columns", "pixels")


def gather_overrides(model: Path, overrides: Mapping[str, object] | None) -> dict[str, object]:
    """Return what is stated about ``model``: the YAML file beside it, then ``overrides`` over it. Raises ModelError."""
    beside = model.with_suffix(".yaml")
    stated: dict[str, object] = {}
    if beside.is_file():
        try:
            content = yaml.safe_load(beside.read_text(encoding="utf-8")) or {}
        except (OSError, UnicodeError, yaml.YAMLError) as error:
            raise ModelError(f"{beside}: cannot be read as YAML: {error}") from error
        if not isinstance(content, dict):
            raise ModelError(f"{beside}: must hold keys and values. Allowed keys: {', '.join(KEYS)}.")
        stated.update(_checked(content, str(beside)))
    for key, value in _checked(dict(overrides or {}), f"model {model}").items():
        earlier = stated.get(key)
        merge = key == "pixels" and isinstance(earlier, dict) and isinstance(value, dict)
        stated[key] = {**earlier, **value} if merge else value  # type: ignore[dict-item]
    return stated


def size_of(value: object) -> tuple[int, int]:
    """Return ``(width, height)`` of an ``input_size``. Raises ModelError."""
    pair = [value, value] if isinstance(value, int) else value
    if (
        isinstance(pair, list | tuple)
        and len(pair) == 2
        and all(isinstance(side, int) and not isinstance(side, bool) and 1 <= side <= 16384 for side in pair)
    ):
        return int(pair[0]), int(pair[1])
    raise ModelError(f"input_size: got {value!r}. Allowed: 640, or [width, height], each 1 to 16384.")


def _checked(stated: dict[str, object], where: str) -> dict[str, object]:
    """Return ``stated`` with its values in their final types. Raises ModelError naming ``where`` and the key."""
    for key in stated:
        _known(key, KEYS, where)
    _one_of(stated, "family", get_args(Family), where)
    _one_of(stated, "rows", ROWS, where)
    if "strides" in stated:
        strides = stated["strides"]
        if not isinstance(strides, list | tuple) or not strides or not all(_is_stride(value) for value in strides):
            raise ModelError(
                f"{where}: strides: got {strides!r}. Allowed: powers of two from 2 to 128, as in [8, 16, 32]."
            )
        stated["strides"] = tuple(strides)
    if "columns" in stated and set(_listed(stated["columns"])) not in (set(COLUMNS), set(COLUMNS[1:])):
        raise ModelError(
            f"{where}: columns: got {stated['columns']!r}. Allowed: {', '.join(COLUMNS[1:])} in the model's order, "
            "with or without batch."
        )
    if "input_size" in stated:
        size_of(stated["input_size"])
    pixels = stated.get("pixels", {})
    if not isinstance(pixels, dict):
        raise ModelError(f"{where}: pixels: got {pixels!r}. Allowed: a mapping of {', '.join(PIXEL_KEYS)}.")
    if pixels:
        stated["pixels"] = _checked_pixels(pixels, where)
    return stated


def _checked_pixels(pixels: dict[str, object], where: str) -> dict[str, object]:
    checked: dict[str, object] = {}
    for key, value in pixels.items():
        _known(key, PIXEL_KEYS, f"{where}: pixels")
        checked[key] = value
    _one_of(pixels, "order", ORDERS, f"{where}: pixels")
    _one_of(pixels, "placement", PLACEMENTS, f"{where}: pixels")
    for key in ("mean", "deviation"):
        if key in pixels:
            checked[key] = _three(pixels[key], key, where)
    if "scale" in pixels and not (_is_number(pixels["scale"]) and float(str(pixels["scale"])) > 0):
        raise ModelError(
            f"{where}: pixels.scale: got {pixels['scale']!r}. Allowed: a number above 0, such as 0.00392157."
        )
    if "pad_value" in pixels and pixels["pad_value"] not in range(256):
        raise ModelError(f"{where}: pixels.pad_value: got {pixels['pad_value']!r}. Allowed: 0 to 255.")
    return checked


def _three(value: object, key: str, where: str) -> tuple[float, float, float]:
    if isinstance(value, list | tuple) and len(value) == 3 and all(_is_number(part) for part in value):
        numbers = tuple(float(part) for part in value)
        if key == "mean" or all(number > 0 for number in numbers):
            return numbers  # type: ignore[return-value]
    raise ModelError(
        f"{where}: pixels.{key}: got {value!r}. Allowed: three numbers, one a channel"
        + (", each above 0." if key == "deviation" else ".")
    )


def _known(key: object, allowed: tuple[str, ...], where: str) -> None:
    if key not in allowed:
        close = difflib.get_close_matches(str(key), allowed, 1)
        hint = f" Did you mean {close[0]}?" if close else f" Allowed: {', '.join(allowed)}."
        raise ModelError(f"{where}: {key}: unknown key.{hint}")


def _one_of(stated: Mapping[str, object], key: str, allowed: tuple[str, ...], where: str) -> None:
    if key in stated and stated[key] not in allowed:
        raise ModelError(f"{where}: {key}: got {stated[key]!r}. Allowed: {', '.join(allowed)}.")


def _listed(value: object) -> list[str]:
    """Return the entries of a list without repeats, else nothing."""
    entries = [str(entry) for entry in value] if isinstance(value, list | tuple) else []
    return entries if len(set(entries)) == len(entries) else []


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_stride(value: object) -> bool:
    return value in (2, 4, 8, 16, 32, 64, 128)
