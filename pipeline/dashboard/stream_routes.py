"""``/api/streams``: what there is, and what can be done to it."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline.dashboard.answers import Refused, answer
from pipeline.dashboard.facts import StreamFacts, StreamList


def stream_routes(streams: Callable[[], StreamList]) -> list[Route]:
    """Return the routes. All are served by worker threads: a pipeline may take a moment to answer."""

    def list_streams(request: Request) -> Response:
        return answer(streams())

    def show_stream(request: Request) -> Response:
        return answer(_of(request.path_params["id"], streams()))

    return [Route("/api/streams", list_streams), Route("/api/streams/{id}", show_stream)]


def _of(stream_id: str, listed: StreamList) -> StreamFacts:
    for stream in listed.streams:
        if stream.id == stream_id:
            return stream
    known = ", ".join(stream.id for stream in listed.streams[:20]) or "none"
    raise Refused(404, "not_found", f"stream '{stream_id[:80]}': there is no such stream. There are: {known}.")
