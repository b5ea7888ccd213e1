"""The dashboard of one pipeline: its HTTP application, and the server that hosts it where one is asked for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pipeline as onpace
from engines.cores import usable_cores
from pipeline.clock import monotonic
from pipeline.config.sections import DashboardSection
from pipeline.config.values import format_deadline
from pipeline.dashboard.facts import ProcessFacts, StreamFacts, StreamList
from pipeline.dashboard.feed import Feed
from pipeline.dashboard.history import History
from pipeline.dashboard.preview import Pictured, Preview
from pipeline.dashboard.reach import host_of, is_loopback
from pipeline.dashboard.watched import Steered, Watched
from pipeline.errors import UrlError
from pipeline.keepup.status import StreamStatus, process_status
from pipeline.publish.publish_step import status_message
from pipeline.source.address import parse_address

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from pipeline.dashboard.control import Control
    from pipeline.dashboard.server import HttpServer

DEFAULT_LISTEN = "127.0.0.1:8080"

_KEY = "dashboard.listen"
_SAMPLE_SECONDS = 1.0
_log = logging.getLogger("onpace.dashboard")


class Dashboard:
    """Made before the pipeline is: a page can be opened while the model is being loaded."""

    def __init__(self, section: DashboardSection, *, cameras: bool, preview: Pictured | None = None) -> None:
        """``cameras``: whether there are any, for "auto". ``preview``: where pictures come from, if not from here.

        Raises UrlError where the address cannot be had.
        """
        self._watched: Watched | None = None
        self._pictured = preview
        self._control: Control | None = None
        self.feed = Feed()
        """Takes what is published."""
        self.preview = Preview(cores=usable_cores(), most_fps=section.preview_fps)
        """Takes every published frame."""
        self.history = History(section.history)
        self._closed = threading.Event()
        self._sampler = threading.Thread(target=self._sample, name="history", daemon=True)
        self.server: HttpServer | None = None
        listen = section.listen
        if listen == "auto":
            listen = DEFAULT_LISTEN if cameras else None
        if listen is None:
            return
        try:
            self.server = self._serve(listen, section)
        except UrlError as error:
            if section.listen != "auto":
                raise
            _log.warning("no dashboard: %s", error)

    def watch(self, watched: Watched) -> None:
        """The pipeline is made: from now on it is shown and steered."""
        self._watched = watched
        if self.server is not None:
            from pipeline.dashboard.control import Control

            self._control = Control(watched.streams, watched.config, watched.config_file, self.history.note)
            self._sampler.start()

    def close(self) -> None:
        """End the server. Closing twice is safe."""
        self._closed.set()
        if self.server is not None:
            self.server.close()
        self.preview.close()

    def streams(self) -> StreamList:
        """Return all streams: how they are set, and how they are doing."""
        watched = self._watched
        if watched is None:
            return StreamList(ProcessFacts(onpace.__version__, "", "", "starting", "", "", ready=False), [])
        statuses = watched.status()
        worst = process_status(statuses)
        model, runtime = watched.model_and_runtime
        process = ProcessFacts(
            onpace=onpace.__version__,
            model=model,
            runtime=runtime,
            verdict=worst.verdict,
            worst_stream=worst.stream_id,
            cause=worst.cause,
            ready=watched.failure is None and not watched.draining(),
        )
        known = ((watched.streams.get(status.stream_id), status) for status in statuses)
        return StreamList(process, [stream_facts(stream, status) for stream, status in known if stream is not None])

    def _sample(self) -> None:
        """Keep the last minutes, whether or not somebody looks."""
        while self._watched is not None and not self._closed.wait(_SAMPLE_SECONDS):
            self.history.record(self._watched.status(), monotonic())

    def _serve(self, listen: str, section: DashboardSection) -> HttpServer:
        # Loaded only where something is served: half a second, and 20 MB.
        from pipeline.dashboard.application import application
        from pipeline.dashboard.guard import HostNames
        from pipeline.dashboard.server import HttpServer, bound

        if not is_loopback(listen) and section.token is None:
            raise UrlError(f"{_KEY} '{listen}' is reached from other machines: set dashboard.token as well.")
        token = section.token.get_secret_value() if section.token else None
        listener = bound(listen, _KEY)
        server = HttpServer(application(self._routes(), HostNames(listen, _KEY), token), listener, name="dashboard")
        host = host_of(listen)
        _log.info("dashboard on http://%s:%d", f"[{host}]" if ":" in host else host, server.port)
        return server

    def _routes(self) -> Sequence[BaseRoute]:
        from pipeline.dashboard.event_routes import event_routes
        from pipeline.dashboard.openapi import openapi_routes
        from pipeline.dashboard.stream_routes import stream_routes
        from pipeline.dashboard.view_routes import view_routes

        return [
            *stream_routes(self.streams, lambda: self._control),
            *openapi_routes(),
            *event_routes(self.feed, self.streams),
            *view_routes(self._pictured or self.preview, self.history),
        ]


def stream_facts(stream: Steered, status: StreamStatus) -> StreamFacts:
    """Return what is answered about one stream."""
    plan = stream.plan
    section = plan.settled
    return StreamFacts(
        id=plan.stream_id,
        url=parse_address(plan.url).redacted,
        live=plan.live,
        paused=stream.paused,
        tracker=plan.tracker,
        deadline=None if section.deadline is None else format_deadline(section.deadline),
        weight=section.weight or 1.0,
        min_fps=section.min_fps or 0.0,
        max_fps=section.max_fps,
        score_threshold=plan.score_threshold,
        status=status_message(status),
    )
