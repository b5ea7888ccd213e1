"""The chart of a capacity ramp: what came out, how old it was, and how busy the stages were, by number of streams."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.capacity import Step, largest
from pipeline.chart import MUTED, SERIES, new_figure, save


def draw(steps: Sequence[Step], title: str, max_age_seconds: float, file: Path) -> None:
    """Write the chart to ``file`` as PNG. ``max_age_seconds``: the oldest allowed. Raises InputError."""
    figure, (rate, age, busy) = new_figure(13.5, 4.2, panels=3)
    streams = [step.streams for step in steps]
    rate.plot(streams, [step.received_fps for step in steps], "o--", color=MUTED, label="cameras deliver")
    rate.plot(streams, [step.published_fps for step in steps], "o-", color=SERIES[0], label="published")
    rate.set_ylabel("frames a second, all streams")
    for colour, name in zip(SERIES, ("p50", "p95", "p99"), strict=False):
        known = [(step.streams, value) for step in steps if (value := getattr(step.age_seconds, name)) is not None]
        age.plot([at for at, _ in known], [value for _, value in known], "o-", color=colour, label=name)
    age.axhline(max_age_seconds, color=MUTED, linestyle=":", label="allowed (p95)")
    age.set_ylabel("age of the worst stream, seconds")
    for colour, stage in zip(SERIES, steps[0].utilisation, strict=False):
        busy.plot(streams, [100 * step.utilisation[stage] for step in steps], "o-", color=colour, label=stage)
    busy.set_ylabel("stage busy, %")
    busy.set_ylim(0, 105)
    most = largest(list(steps))
    for axis in (rate, age, busy):
        axis.axvline(most + 0.5, color=SERIES[3], linewidth=1.2)
        axis.set_xlabel("streams")
        axis.set_xlim(left=0)
        axis.set_ylim(bottom=0)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend(frameon=False)
    lost = next((step for step in steps if not step.keeps_up), None)
    limit = f"; {lost.limit} gives out first" if lost is not None else ""
    figure.suptitle(f"{title}: {most} stream{'' if most == 1 else 's'} keep{'s' if most == 1 else ''} up{limit}")
    save(figure, file)
