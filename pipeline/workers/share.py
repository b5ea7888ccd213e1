"""How many workers there are, who gets which streams, and what each is told to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from engines.cores import usable_cores
from engines.device import find_gpus
from engines.errors import RuntimeMissingError
from pipeline.config.sections import Config, StreamSection

STREAMS_A_WORKER = 10
"""On a GPU. A worker has one core; ten cameras of 30 pictures a second took half of one beside an H100."""

_SHARE_OF_CORES = 0.875
"""The parent, the GPU's interrupts and whoever else is there need some, too."""
_USUAL_FPS = 30.0
_SELDOM_SECONDS = 3600.0


def worker_count(config: Config) -> int:
    """Return how many workers ``workers.count`` asks for; 1: none, everything is done in this process."""
    count = config.workers.count
    if count == "auto":
        return _count_for(config)
    return min(count, len(config.streams))


def assign(sections: Sequence[StreamSection], workers: int) -> list[int]:
    """Return the worker of each stream, in order: the one that has least to do."""
    loads = [0.0] * workers
    assigned = []
    for section in sections:
        worker = least_loaded(loads)
        loads[worker] += load_of(section)
        assigned.append(worker)
    return assigned


def least_loaded(loads: Sequence[float]) -> int:
    """Return which of several has least to do; the first of equals."""
    return min(range(len(loads)), key=loads.__getitem__)


def load_of(section: StreamSection) -> float:
    """Return what a stream asks for, as far as its configuration tells, in usual cameras."""
    return 1.0 if section.max_fps is None else min(1.0, max(0.1, section.max_fps / _USUAL_FPS))


def share_of(config: Config, sections: Iterable[StreamSection], workers: int) -> Config:
    """Return what one of ``workers`` is to do: these streams, and nothing that only one process can have."""
    threads = config.infer.threads or usable_cores()
    return config.model_copy(
        update={
            "streams": list(sections),
            "infer": config.infer.model_copy(update={"threads": max(1, threads // workers)}),
            "publish": config.publish.model_copy(
                update={"sinks": [], "curve": None, "status_interval": _SELDOM_SECONDS}
            ),
            "metrics": config.metrics.model_copy(update={"listen": None}),
            "dashboard": config.dashboard.model_copy(update={"listen": None, "token": None}),
            "workers": config.workers.model_copy(update={"count": 1}),
        }
    )


def _count_for(config: Config) -> int:
    """On a CPU the model's runs are what takes time, and those leave Python's lock alone: one process does."""
    if config.infer.runtime == "cpu" or not _has_gpu():
        return 1
    return workers_for(len(config.streams), usable_cores())


def workers_for(streams: int, cores: int) -> int:
    """Return how many workers keep up with that many cameras on a GPU, as far as there are cores."""
    return max(1, min(-(-streams // STREAMS_A_WORKER), int(cores * _SHARE_OF_CORES)))


def _has_gpu() -> bool:
    try:
        return bool(find_gpus())
    except RuntimeMissingError:
        return False
