"""The dashboard's application: its routes behind the guard, and JSON for everything that goes wrong."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from pipeline.dashboard.answers import Refused, problem
from pipeline.dashboard.guard import BodyTooLarge, Guard, HostNames, too_large


def application(routes: Sequence[BaseRoute], names: HostNames, token: str | None) -> ASGIApp:
    """Return the application; with a ``token``, whoever asks for anything below /api/ must have it."""
    inner = Starlette(
        routes=list(routes),
        exception_handlers={Refused: _refused, HTTPException: _http_error, BodyTooLarge: _body_too_large, 500: _failed},
    )
    return Guard(inner, names, token)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return error.response()


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return problem(404, "not_found", f"{request.url.path[:200]}: there is nothing here. /openapi.json lists all.")
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        message = f"{request.method[:20]} does not work here; allowed: {allowed}."
        return problem(405, "wrong_method", message, headers=error.headers)
    return problem(error.status_code, "refused", f"{error.detail}.", headers=error.headers)


async def _body_too_large(request: Request, error: Exception) -> Response:
    return too_large()


async def _failed(request: Request, error: Exception) -> Response:
    return problem(500, "failed", "this request failed for a reason of ours; the log says more.")
