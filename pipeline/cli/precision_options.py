"""The options of every command that turns a model into another precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from engines.precision.typed_model import CALIBRATED, PRECISIONS, Precision
from pipeline.errors import InputError

_ALLOWED = "fp32, fp16, int8; TensorRT 10 and later: bf16, fp8"
PRECISION_HELP = f"{_ALLOWED}; else as the file is."
PRECISIONS_HELP = f"{_ALLOWED}; comma-separated, or repeated; else what suits each."
CALIBRATION_HELP = "int8, fp8: a video, a folder or glob of pictures, or a recording; may be repeated."
PICTURES_HELP = "int8, fp8: how many pictures to calibrate on."
METHOD_HELP = "int8, fp8: what range to take of what the pictures give."


def precision_of(option: str, text: str | None) -> Precision | None:
    """Return the precision that an option names, None where it is not given. Raises InputError."""
    if text is None:
        return None
    for precision in PRECISIONS:
        if text == precision:
            return precision
    raise InputError(f"{option} {text}: allowed are {', '.join(get_args(Precision))}.")


def refuse_unused_pictures(precision: Precision | None, calibration: Sequence[str] | None) -> None:
    """Raise InputError for calibration pictures that ``precision`` does not look at."""
    if calibration and precision not in CALIBRATED:
        got = "but none is given" if precision is None else f"not {precision}"
        raise InputError(
            f"--calibration is for --precision {' or '.join(CALIBRATED)}, {got}. Name one of these, or leave the "
            "pictures out."
        )


def precisions_of(option: str, texts: Sequence[str]) -> list[Precision]:
    """Return the precisions named, comma-separated or one an option, without repeats. Raises InputError."""
    names = [name.strip() for text in texts for name in text.split(",") if name.strip()]
    found = [precision_of(option, name) for name in names]
    return list(dict.fromkeys(precision for precision in found if precision is not None))
