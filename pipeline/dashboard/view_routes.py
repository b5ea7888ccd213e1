"""What only the live view asks for: pictures, the last minutes, and the page itself."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from pipeline.clock import monotonic
from pipeline.dashboard.history import History
from pipeline.dashboard.preview import WIDTHS, Picture, Pictured

PAGE = Path(__file__).parent / "page"
_LENGTHS = struct.Struct("<II")
_SILENCE_SECONDS = 5.0
"""After so long without a picture an empty record follows: who waits knows that the server lives."""
_MOST_STREAMS = 256
"""That one viewer may look at: more do not fit on a screen."""

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
)
_PAGE_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    # A page and its modules belong together: after an update none may come from an old copy.
    "Cache-Control": "no-cache",
}
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def view_routes(preview: Pictured, history: History) -> list[Route]:
    """Return the routes of the live view, for an application that has checked who asks."""

    async def read_preview(request: Request) -> Response:
        asked = request.query_params
        streams = asked.getlist("stream")[:_MOST_STREAMS]
        return StreamingResponse(
            _records(preview, streams, _whole(asked.get("width"), WIDTHS[1])),
            media_type="application/octet-stream",
            headers={"Cache-Control": "no-store"},
        )

    async def read_history(request: Request) -> Response:
        asked = request.query_params
        streams: Collection[str] | None = asked.getlist("stream") or None
        since, points = _whole(asked.get("since"), 0), _whole(asked.get("points"), 0)
        answer: dict[str, Any] = history.read(since=since, stream_ids=streams, points=points or None)
        return Response(
            msgspec.json.encode(answer), media_type="application/json", headers={"Cache-Control": "no-store"}
        )

    return [
        Route("/api/preview", read_preview),
        Route("/api/history", read_history),
        *(Route(path, _file(file)) for path, file in _page_files()),
    ]


async def _records(preview: Pictured, streams: Collection[str], width: int) -> AsyncIterator[bytes]:
    """Yield pictures as they come: two lengths (uint32, little endian), then as many bytes of JSON and of JPEG."""
    sent_at = monotonic()
    with preview.watch(streams, width) as viewer:
        while True:
            await asyncio.sleep(preview.look_seconds)
            now = monotonic()
            if pictures := viewer.take():
                sent_at = now
                yield b"".join(map(_record, pictures))
            elif now - sent_at > _SILENCE_SECONDS:
                sent_at = now
                yield _LENGTHS.pack(0, 0)


def _record(picture: Picture) -> bytes:
    return _LENGTHS.pack(len(picture.message), len(picture.jpeg)) + picture.message + picture.jpeg


def _page_files() -> list[tuple[str, Path]]:
    """Return the page's own files by path: a list made once, so that no request can name any other."""
    files = [file for file in sorted(PAGE.rglob("*")) if file.suffix in _KINDS]
    return [("/", PAGE / "index.html"), *((f"/{file.relative_to(PAGE).as_posix()}", file) for file in files)]


def _file(path: Path) -> Any:
    content = path.read_bytes()

    async def answer(request: Request) -> Response:
        return Response(content, media_type=_KINDS[path.suffix], headers=_PAGE_HEADERS)

    return answer


def _whole(text: str | None, default: int) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 10 else default
