"""``/openapi.json``, generated from the structs that are answered and the sections that are taken; and a page of it."""

from __future__ import annotations

import functools
import html
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

import pipeline
from pipeline.config.load import json_schema
from pipeline.config.sections import StreamSection
from pipeline.dashboard.answers import answer
from pipeline.dashboard.control import CHANGEABLE, DONE
from pipeline.dashboard.facts import RefusalBody, RemovedStream, StreamFacts, StreamList

_ID = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "The stream's name.",
    "schema": {"type": "string"},
}
_REFUSALS = {
    400: "The body is no JSON object, or a parameter is unknown.",
    401: "A token is needed, or it is the wrong one.",
    403: "Asked by a page of another site.",
    404: "There is no such stream.",
    409: "The stream, or the pipeline, is in no state for it.",
    413: "The body is too large.",
    415: "The body is not announced as JSON.",
    421: "The server goes by another name.",
    422: "Something in the body cannot be used; every problem is listed.",
    500: "It could not be done, or was done and not saved (code not_saved).",
    503: "The model is being loaded.",
}
_ALWAYS = (401, 403, 421)
_ACTIONS = {
    "pause": "Leave the source until it is resumed",
    "resume": "End a pause: the source is opened anew, in a new epoch",
    "restart": "Leave the source and open it anew, in a new epoch",
}


def openapi_routes() -> list[Route]:
    """Return the routes of the description and of its page. They need no token: both are the same everywhere."""

    def description(request: Request) -> Response:
        return answer(openapi())

    def page(request: Request) -> Response:
        policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
        return HTMLResponse(_page(openapi()), headers={"Content-Security-Policy": policy, "Cache-Control": "no-cache"})

    return [Route("/openapi.json", description), Route("/openapi", page)]


@functools.cache
def openapi() -> dict[str, Any]:
    """Return the description, OpenAPI 3.1."""
    answers = (StreamList, StreamFacts, RemovedStream, RefusalBody)
    _, components = msgspec.json.schema_components(answers, ref_template="#/components/schemas/{name}")
    components["StreamSection"] = _section(tuple(StreamSection.model_fields), required=("id", "url"))
    components["StreamChanges"] = _section(CHANGEABLE)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Onpace control API",
            "version": pipeline.__version__.partition("+")[0],
            "description": "Lists and steers the streams of a running pipeline.",
        },
        "paths": _paths(),
        "components": {"schemas": components, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"token": []}],
    }


def _paths() -> dict[str, Any]:
    one = {
        "parameters": [_ID],
        "get": _operation("showStream", "Show one stream", "StreamFacts", refusals=(404,)),
        "patch": _operation(
            "changeStream",
            "Change a stream while it plays",
            "StreamFacts",
            body="StreamChanges",
            refusals=(400, 404, 409, 413, 415, 422, 500, 503),
        ),
        "delete": _operation(
            "removeStream", "Take a stream out once its last frame has left", "RemovedStream", refusals=(404, 500, 503)
        ),
    }
    every = {
        "get": _operation("listStreams", "List all streams", "StreamList"),
        "post": _operation(
            "addStream",
            "Add a stream",
            "StreamFacts",
            status=201,
            body="StreamSection",
            refusals=(400, 409, 413, 415, 422, 500, 503),
        ),
    }
    actions = {
        f"/api/streams/{{id}}/{action}": {
            "parameters": [_ID],
            "post": _operation(f"{action}Stream", _ACTIONS[action], "StreamFacts", refusals=(404, 409, 503)),
        }
        for action in DONE
    }
    return {"/api/streams": every, "/api/streams/{id}": one, **actions, "/api/events": {"get": _events()}}


def _operation(
    name: str,
    summary: str,
    answered: str,
    *,
    status: int = 200,
    body: str | None = None,
    refusals: tuple[int, ...] = (),
) -> dict[str, Any]:
    responses: dict[str, Any] = {str(status): {"description": "Done.", "content": _json(answered)}}
    for code in sorted({*_ALWAYS, *refusals}):
        responses[str(code)] = {"description": _REFUSALS[code], "content": _json("RefusalBody")}
    operation: dict[str, Any] = {"operationId": name, "summary": summary, "responses": responses}
    if body is not None:
        operation["requestBody"] = {"required": True, "content": _json(body)}
    return operation


def _events() -> dict[str, Any]:
    operation = _operation("readEvents", "Read statuses and detections as server-sent events", "", refusals=(400,))
    operation["parameters"] = [
        _query("kind", "What to send; status alone without it.", ["status", "detections"]),
        _query("stream", "Of these streams; of all without it."),
    ]
    operation["responses"]["200"] = {
        "description": "Events 'streams' (a StreamList: first, and when the set of streams changes), 'status' and "
        "'detections' (messages as subscribers get them).",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
    return operation


def _query(name: str, description: str, choices: list[str] | None = None) -> dict[str, Any]:
    items: dict[str, Any] = {"type": "string", **({"enum": choices} if choices else {})}
    return {"name": name, "in": "query", "description": description, "schema": {"type": "array", "items": items}}


def _json(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _section(keys: tuple[str, ...], required: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return what the configuration's schema says of some keys of a stream."""
    whole = json_schema()["$defs"]["StreamSection"]
    properties = {key: whole["properties"][key] for key in keys}
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        **({"required": list(required)} if required else {}),
    }


def _page(description: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><b>{method.upper()}</b><td><code>{html.escape(path)}</code><td>{html.escape(operation['summary'])}"
        f"<td>{', '.join(operation['responses'])}"
        for path, operations in description["paths"].items()
        for method, operation in operations.items()
        if method != "parameters"
    )
    keys = "".join(
        f"<tr><td><code>{name}</code><td>{'yes' if name in CHANGEABLE else ''}"
        f"<td>{html.escape(schema.get('description', ''))}"
        for name, schema in description["components"]["schemas"]["StreamSection"]["properties"].items()
    )
    style = (
        ":root{color-scheme:light dark}body{font:16px/1.5 system-ui;margin:2rem auto;max-width:60rem;padding:0 1rem}"
        "td,th{padding:.2rem 1rem .2rem 0;text-align:left;vertical-align:top}"
    )
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>Onpace control API</title><style>{style}</style><h1>Onpace control API</h1>"
        f"<p>{html.escape(description['info']['description'])} The whole of it, for programs: "
        f"<a href=openapi.json>openapi.json</a> (OpenAPI {description['openapi']}). <a href='./'>Live view</a></p>"
        f"<table><tr><th>Method<th>Path<th>What it does<th>Answers{rows}</table>"
        f"<h2>A stream's keys</h2><table><tr><th>Key<th>May change<th>Meaning{keys}</table></html>"
    )
