"""Charts as PNG files. matplotlib is optional (the ``chart`` extra) and imported when a chart is asked for."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from pipeline.errors import InputError

INK, MUTED, GRID = "#1f2933", "#6b7785", "#e3e8ee"
SERIES = ("#2563a8", "#e08a1e", "#2f8f5b", "#b33a3a", "#7a52a8")
"""Colours of series, in order; told apart by people with any colour sight, and in grey."""


def new_figure(width_inches: float, height_inches: float, panels: int = 1) -> tuple[Any, list[Any]]:
    """Return a matplotlib figure and its panels, side by side. Raises InputError without matplotlib."""
    try:
        figure_class = importlib.import_module("matplotlib.figure").Figure
    except ImportError as error:
        raise InputError(f'a chart needs matplotlib: {error}. Install it: pip install "onpace[chart]".') from error
    figure = figure_class(figsize=(width_inches, height_inches), layout="constrained")
    axes = [figure.add_subplot(1, panels, panel + 1) for panel in range(panels)]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(colors=MUTED, labelcolor=INK)
        axis.grid(color=GRID, linewidth=0.8)
        axis.set_axisbelow(True)
    return figure, axes


def check_chart(file: Path) -> None:
    """Raise InputError where ``file`` cannot become a chart: known before anything is measured for it."""
    if file.suffix.lower() != ".png":
        raise InputError(f"chart {file}: must end in .png.")
    if not file.parent.is_dir():
        raise InputError(f"chart {file}: the folder {file.parent} does not exist. Make it, or name another.")
    new_figure(1, 1)


def save(figure: Any, file: Path) -> None:
    """Write the figure as PNG."""
    figure.savefig(str(file), dpi=150, facecolor="white", format="png")
