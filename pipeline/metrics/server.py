"""Serves /metrics, /livez, /readyz and /healthz over HTTP."""

from __future__ import annotations

import json
import logging

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from pipeline.dashboard.guard import HostGuard, HostNames
from pipeline.dashboard.server import HttpServer, bound
from pipeline.metrics.health import Answer, Health

_KEY = "metrics.listen"
_NOT_KEPT = {"Cache-Control": "no-store"}

_log = logging.getLogger("onpace.metrics")


def serve_metrics(listen: str, registry: CollectorRegistry, health: Health) -> HttpServer:
    """Serve on ``listen``, HOST:PORT, until it is closed. Raises UrlError where the address cannot be had."""
    listener = bound(listen, _KEY)
    application = Starlette(routes=_routes(registry, health), exception_handlers={404: _nothing_here})
    server = HttpServer(HostGuard(application, HostNames(listen, _KEY)), listener, name="metrics")
    _log.info("metrics and health on http://%s:%d", listen.rpartition(":")[0], server.port)
    return server


def _routes(registry: CollectorRegistry, health: Health) -> list[Route]:
    def metrics(request: Request) -> Response:
        encode, kind = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={**_NOT_KEPT, "Content-Type": kind})

    def livez(request: Request) -> Response:
        return _said(health.alive())

    def readyz(request: Request) -> Response:
        return _said(health.ready())

    def healthz(request: Request) -> Response:
        report = health.report()
        status = 200 if report["alive"] else 503
        return Response(json.dumps(report) + "\n", status, _NOT_KEPT, media_type="application/json")

    return [Route(f"/{answer.__name__}", answer) for answer in (metrics, livez, readyz, healthz)]


def _said(answer: Answer) -> Response:
    return PlainTextResponse(answer.words + "\n", 200 if answer.ok else 503, _NOT_KEPT)


async def _nothing_here(request: Request, error: Exception) -> Response:
    return PlainTextResponse("here are /metrics, /livez, /readyz and /healthz\n", 404)
