"""The rows as a table for terminals, as Markdown, as JSON and as a chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

import pipeline as onpace
from engines.model_spec import ModelSpec
from pipeline.chart import INK, SERIES, new_figure, save
from pipeline.comparing.row import Figures, Row

COLUMNS = (
    "runtime",
    "precision",
    "batch",
    "p50 ms",
    "p95",
    "p99",
    "pictures/s",
    "host MiB",
    "GPU MiB",
    "file MiB",
    "build s",
    "AP",
    "AP lost",
)

_SHORT = ("runtime", "type", "batch", "p50", "p95", "p99", "fps", "host", "GPU", "file", "build", "AP", "lost")
_MAY_BE_EMPTY = ("GPU", "AP", "lost")


def as_json(rows: Sequence[Row], spec: ModelSpec, about: dict[str, Any]) -> dict[str, Any]:
    """Return what ``--json`` prints."""
    return {
        "onpace": onpace.__version__,
        "model": spec.name,
        "sha256": spec.sha256,
        "input": [spec.input_width, spec.input_height],
        **about,
        "rows": [asdict(row) for row in rows],
    }


def as_table(rows: Sequence[Row]) -> Table:
    """Return the measured rows for a terminal of 80 columns, without the columns that would be empty.

    All rows where none was measured.
    """
    shown = [row for row in rows if row.batches] or rows
    lines = _cells(shown)
    kept = [
        place
        for place, title in enumerate(_SHORT)
        if title not in _MAY_BE_EMPTY or any(cells[place] not in ("", "-") for cells in lines)
    ]
    titles = [_SHORT[place] for place in kept]
    table = Table(caption=_caption(shown, titles), caption_justify="left", padding=0, box=SIMPLE_HEAD, show_edge=False)
    for title in titles:
        table.add_column(title, justify="left" if title in _SHORT[:2] else "right", no_wrap=True)
    for cells in lines:
        table.add_row(*(cells[place] for place in kept))
    return table


def as_markdown(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table, and below it what is missing."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|---|---|{'---:|' * (len(COLUMNS) - 2)}"]
    lines += [f"| {' | '.join(cells)} |" for cells in _cells(rows)]
    lines += ["", *(f"- {line}" for line in not_measured(rows))] if not_measured(rows) else []
    return "\n".join(lines) + "\n"


def not_measured(rows: Sequence[Row]) -> list[str]:
    """Return a line for each reason why rows are missing or failed."""
    reasons: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        if row.status != "ok":
            reasons.setdefault((row.runtime, row.status, row.why), []).append(row.precision)
    return [
        f"{runtime} {', '.join(precisions)}: {status}. {why}" for (runtime, status, why), precisions in reasons.items()
    ]


def draw(rows: Sequence[Row], title: str, file: Path) -> None:
    """Draw latency of one picture and throughput at the best batch, a bar a row. Raises InputError."""
    shown = [row for row in rows if row.batches]
    figure, (latency, throughput) = new_figure(11, 1.6 + 0.5 * max(1, len(shown)), panels=2)
    figure.suptitle(title, color=INK, wrap=True)
    names = [f"{row.runtime} {row.precision}" for row in shown]
    places = list(range(len(shown)))
    colours = {runtime: SERIES[place % len(SERIES)] for place, runtime in enumerate({row.runtime: 0 for row in shown})}
    for axis in (latency, throughput):
        axis.grid(axis="y", visible=False)
        axis.set_yticks(places, names)
        axis.invert_yaxis()
        axis.margins(x=0.25)
    first = [row.batches[0] for row in shown]
    ends = [max(0.0, figures.latency_ms["p95"] - figures.latency_ms["p50"]) for figures in first]
    bars = latency.barh(
        places,
        [figures.latency_ms["p50"] for figures in first],
        xerr=[[0.0] * len(ends), ends],
        color=[colours[row.runtime] for row in shown],
        ecolor=INK,
        height=0.6,
    )
    latency.bar_label(bars, [f" {figures.latency_ms['p50']:.3g}" for figures in first], color=INK)
    latency.set_xlabel(f"ms a run of {first[0].batch if first else 1}: p50, whisker to p95")
    best = [_best(row) for row in shown]
    bars = throughput.barh(
        places, [figures.fps for figures in best], color=[colours[row.runtime] for row in shown], height=0.6
    )
    labels = [f" {in_pictures(figures.fps)}{_batch_and_ap(row)}" for row, figures in zip(shown, best, strict=True)]
    throughput.bar_label(bars, labels, color=INK)
    throughput.set_xlabel("pictures/s at the best batch")
    save(figure, file)


def in_words(machine: Mapping[str, Any]) -> str:
    """Return the machine of a report for people."""
    return f"{machine['processor']}, {machine['cores']} cores"


def in_pictures(per_second: float) -> str:
    """Return pictures a second for people."""
    return f"{per_second:,.0f}" if per_second >= 100 else f"{per_second:.3g}"


def _caption(rows: Sequence[Row], titles: Sequence[str]) -> str:
    sizes = ", ".join(title for title in ("host", "GPU", "file") if title in titles)
    lost = "; lost: points of AP" if "lost" in titles else ""
    about = f"p50, p95, p99: ms a run; fps: pictures a second; {sizes}: MiB; build: s{lost}"
    if all(len(row.batches) < 2 for row in rows):
        return about
    first = "one picture" if all(row.at(1) for row in rows if row.batches) else "the smallest batch"
    return f"{about}\nfirst line: {first}; second: the batch with the most pictures a second"


def _best(row: Row) -> Figures:
    return row.at(row.best_batch) or row.batches[0]


def _batch_and_ap(row: Row) -> str:
    ap = "" if row.ap is None else f", AP {row.ap:.3f}"
    return f" (batch {row.best_batch}{ap})"


def _cells(rows: Sequence[Row]) -> list[list[str]]:
    """Return two lines a row, for one picture and for the best batch; one where they are the same."""
    lines = []
    for row in rows:
        if not row.batches:
            lines.append([row.runtime, row.precision, row.status, *["-"] * (len(COLUMNS) - 3)])
            continue
        shown = [row.batches[0]]
        shown += [_best(row)] if row.best_batch != row.batches[0].batch else []
        about = [
            _mebibytes(row.host_bytes),
            _mebibytes(row.gpu_bytes),
            _mebibytes(row.file_bytes, ".1f"),
            _number(row.build_seconds, ".1f"),
            _number(row.ap, ".3f"),
            _number(None if row.ap_loss is None else round(row.ap_loss, 1) + 0.0, "+.1f"),  # no "-0.0"
        ]
        for place, figures in enumerate(shown):
            latency = [_milliseconds(figures.latency_ms[key]) for key in ("p50", "p95", "p99")]
            names = [row.runtime, row.precision] if not place else ["", ""]
            rest = about if not place else [""] * len(about)
            lines.append([*names, str(figures.batch), *latency, f"{figures.fps:.1f}", *rest])
    return lines


def _milliseconds(value: float) -> str:
    """Return four digits, so that all columns fit a terminal; runs differ by more than what is left out."""
    return format(value, ".2f" if value < 99.995 else ".1f" if value < 999.95 else ".0f")


def _mebibytes(count: int | None, style: str = ".0f") -> str:
    return _number(None if count is None else count / (1 << 20), style)


def _number(value: float | None, style: str) -> str:
    return "-" if value is None else format(value, style)
