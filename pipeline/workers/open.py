"""Opens a run: in this process, or in several."""

from __future__ import annotations

from pathlib import Path

from pipeline.config.sections import Config
from pipeline.pipeline import Pipeline
from pipeline.timeline.timeline import Timeline
from pipeline.workers.group import WorkerGroup
from pipeline.workers.share import worker_count

Run = Pipeline | WorkerGroup
"""What ``open_run`` returns."""


def open_run(config: Config, config_file: Path | None = None, timeline: Timeline | None = None) -> Run:
    """Return what ``workers.count`` asks for; the arguments are those of ``Pipeline``, and so is what is raised."""
    workers = worker_count(config)
    if workers == 1:
        return Pipeline(config, config_file, timeline=timeline)
    return WorkerGroup(config, config_file, timeline=timeline)
