"""How far a build is: a bar where the library says it, else honestly only that it is going on, and since when."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

from engines.trt.progress import Progress as BuildProgress


@contextmanager
def build_progress(name: str, *, show: bool) -> Iterator[BuildProgress]:
    """Yield what follows the build; shown on stderr where that is a terminal."""
    if not show or not sys.stderr.isatty():
        yield BuildProgress(lambda share, phase: None)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"building {name}", total=None)  # no total: the bar only says that it goes on

        def tell(share: float, phase: str) -> None:
            bar.update(task, total=1.0, completed=share, description=f"building {name}: {phase[:40].lower()}")

        yield BuildProgress(tell)
