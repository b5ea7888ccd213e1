"""``/api/streams``: what there is, and what can be done to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline.dashboard.answers import Refused, answer
from pipeline.dashboard.control import DONE, Action, Control
from pipeline.dashboard.facts import StreamFacts, StreamList
from pipeline.errors import StreamError

_BODY_SECONDS = 5.0


def stream_routes(streams: Callable[[], StreamList], control: Callable[[], Control | None]) -> list[Route]:
    """Return the routes. What may take a moment is done by worker threads. ``control``: None while it starts."""

    def facts_of(stream_id: str) -> StreamFacts:
        listed = streams().streams
        for stream in listed:
            if stream.id == stream_id:
                return stream
        raise Refused(404, "not_found", str(StreamError.unknown(stream_id, (stream.id for stream in listed))))

    def steering() -> Control:
        found = control()
        if found is None:
            raise Refused(503, "starting", "the model is being loaded. Try again in a moment.")
        return found

    def list_streams(request: Request) -> Response:
        return answer(streams())

    def show_stream(request: Request) -> Response:
        return answer(facts_of(request.path_params["id"]))

    async def add_stream(request: Request) -> Response:
        data = await _body(request)

        def add() -> Response:
            stream_id = steering().add(data, _who(request))
            return answer(facts_of(stream_id), 201, {"Location": f"/api/streams/{stream_id}"})

        return await run_in_threadpool(add)

    async def change_stream(request: Request) -> Response:
        changes = await _body(request)
        stream_id = request.path_params["id"]

        def change() -> Response:
            steering().change(stream_id, changes, _who(request))
            return answer(facts_of(stream_id))

        return await run_in_threadpool(change)

    def remove_stream(request: Request) -> Response:
        return answer(steering().remove(request.path_params["id"], _who(request)))

    def acting(action: Action) -> Route:
        def act(request: Request) -> Response:
            stream_id = request.path_params["id"]
            steering().act(stream_id, action, _who(request))
            return answer(facts_of(stream_id))

        return Route(f"/api/streams/{{id}}/{action}", act, methods=["POST"])

    one = "/api/streams/{id}"
    return [
        Route("/api/streams", list_streams),
        Route("/api/streams", add_stream, methods=["POST"]),
        Route(one, show_stream),
        Route(one, change_stream, methods=["PATCH"]),
        Route(one, remove_stream, methods=["DELETE"]),
        *map(acting, DONE),
    ]


def _who(request: Request) -> str:
    return request.client.host if request.client else "somebody"


async def _body(request: Request) -> dict[str, Any]:
    """Return the body, a JSON object."""
    try:
        content = await asyncio.wait_for(request.body(), _BODY_SECONDS)
    except asyncio.TimeoutError:
        raise Refused(408, "too_slow", f"the body did not come within {_BODY_SECONDS:.0f} s.") from None
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        raise Refused(400, "not_json", "the body is not valid JSON.") from None
    if not isinstance(data, dict):
        raise Refused(400, "not_json", 'the body must be a JSON object, as in {"weight": 2}.')
    return data
