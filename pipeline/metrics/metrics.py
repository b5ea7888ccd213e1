"""One pipeline's metrics and health: a registry of its own, and the server that shows both where one is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector

from engines.builds import Builds
from pipeline.metrics.collector import PipelineCollector
from pipeline.metrics.health import Health
from pipeline.metrics.watched import Watched, WorkerFacts

if TYPE_CHECKING:
    from pipeline.dashboard.server import HttpServer


class Metrics:
    """Made before the pipeline is: what takes long to load can already be asked whether it is ready."""

    def __init__(self, listen: str | None) -> None:
        """``listen``: HOST:PORT, or None for no server. Raises UrlError where the address cannot be had."""
        self._watched: Watched | None = None
        self._workers: Callable[[], Sequence[WorkerFacts]] = tuple
        self.registry = CollectorRegistry(auto_describe=False)
        """Nothing global: two pipelines in one process have two."""
        self.builds = Builds()
        """Whoever opens the model counts here what had to be made for it."""
        collector = PipelineCollector(lambda: self._watched, self.builds, workers=lambda: self._workers())
        self.registry.register(collector)
        ProcessCollector(registry=self.registry)
        self.health = Health(lambda: self._watched, workers=lambda: self._workers())
        self.server: HttpServer | None = None
        if listen is not None:
            from pipeline.metrics.server import serve_metrics  # loaded only where something is served

            self.server = serve_metrics(listen, self.registry, self.health)

    def watch(self, watched: Watched, workers: Callable[[], Sequence[WorkerFacts]] = tuple) -> None:
        """The pipeline is made: from now on it is asked. ``workers``: the processes that have a part in it."""
        self._watched = watched
        self._workers = workers

    def close(self) -> None:
        """End the server. Closing twice is safe."""
        if self.server is not None:
            self.server.close()
