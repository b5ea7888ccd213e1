"""``/api/events``: statuses and detections as server-sent events, as long as somebody listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from pipeline.clock import monotonic
from pipeline.dashboard.answers import Refused
from pipeline.dashboard.facts import StreamList
from pipeline.dashboard.feed import Feed
from pipeline.publish.messages import DetectionsMessage, Message

KINDS = ("status", "detections")
_LOOK_SECONDS = 0.04
"""Nothing wakes the server for a message: that would cost the publishing threads more than the message does."""
_STATUS_LOOK_SECONDS = 0.2
_SILENCE_SECONDS = 5.0

_encode = msgspec.json.Encoder().encode


def event_routes(feed: Feed, streams: Callable[[], StreamList]) -> list[Route]:
    """Return the route. ``streams`` lists what there is: a reader gets it first, and again whenever the set changes."""

    async def events(request: Request) -> Response:
        kinds = request.query_params.getlist("kind") or ["status"]
        for kind in kinds:
            if kind not in KINDS:
                raise Refused(400, "invalid", f"kind: '{kind[:40]}' is unknown; allowed: {', '.join(KINDS)}.")
        wanted = request.query_params.getlist("stream")
        return StreamingResponse(
            _events(feed, kinds, wanted, streams),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    return [Route("/api/events", events)]


async def _events(
    feed: Feed, kinds: Sequence[str], wanted: Sequence[str], streams: Callable[[], StreamList]
) -> AsyncIterator[bytes]:
    look_seconds = _LOOK_SECONDS if "detections" in kinds else _STATUS_LOOK_SECONDS
    heard_at = monotonic()
    known: list[str] | None = None
    with feed.read(kinds, wanted) as reader:
        while True:
            parts: list[bytes] = []
            messages = reader.take()
            if known is None or any(_is_news(message, known) for message in messages):
                listed = await asyncio.to_thread(streams)
                now_known = [stream.id for stream in listed.streams]
                if now_known != known:
                    known = now_known
                    parts.append(_event("streams", listed))
            parts += [_event(_kind(message), message) for message in messages]
            if parts:
                heard_at = monotonic()
                yield b"".join(parts)
            elif monotonic() - heard_at > _SILENCE_SECONDS:
                heard_at = monotonic()
                yield b": nothing new\n\n"
            await asyncio.sleep(look_seconds)


def _is_news(message: Message, known: Sequence[str]) -> bool:
    """Whether the set of streams changed, as far as a status tells: one came that was not there, or one ended."""
    if isinstance(message, DetectionsMessage):
        return False
    return message.stream_id not in known or message.state == "ended"


def _kind(message: Message) -> str:
    return "detections" if isinstance(message, DetectionsMessage) else "status"


def _event(name: str, content: Any) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + _encode(content) + b"\n\n"
