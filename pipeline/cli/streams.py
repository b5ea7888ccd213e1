"""``onpace streams``: what the control API of a running pipeline offers, from the shell."""

from __future__ import annotations

import http.client
import json as json_format
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import msgspec
import typer

from pipeline.cli import exit_codes
from pipeline.cli.live import table_of
from pipeline.cli.output import printable
from pipeline.cli.summary import console_of
from pipeline.dashboard.facts import StreamList
from pipeline.errors import InputError, OnpaceError

_SECONDS = 20.0
_DEFAULT = "http://127.0.0.1:8080"

At = Annotated[str, typer.Option(help="Where the pipeline's dashboard is.")]
Token = Annotated[
    str | None, typer.Option(envvar="ONPACE_TOKEN", help="Its token, better given in the environment: ONPACE_TOKEN.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON, and nothing else.")]
StreamId = Annotated[str, typer.Argument(metavar="ID", help="The stream's name.")]
Settings = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE…", help="As in the configuration's streams; null: general one.")
]


def list_streams(at: At = _DEFAULT, token: Token = None, json: Json = False) -> int:
    """List the streams of a running pipeline, and how they are doing.

    [bold]Example:[/bold] onpace streams list --at http://127.0.0.1:8080
    """
    answer = _ask("GET", "", at, token)
    if json:
        _print(answer)
        return exit_codes.DONE
    listed = msgspec.convert(answer, StreamList)
    console = console_of(False)
    console.print(table_of([stream.status for stream in listed.streams]))
    for stream in listed.streams:
        console.print(printable(f"{stream.id}: {stream.url}"), markup=False, soft_wrap=True)
    return exit_codes.DONE


def add(
    stream_id: StreamId,
    url: Annotated[str, typer.Argument(metavar="URL", help="Where the video comes from, as in a configuration.")],
    settings: Settings = None,
    at: At = _DEFAULT,
    token: Token = None,
    json: Json = False,
) -> int:
    """Add a stream to a running pipeline.

    [bold]Example:[/bold] onpace streams add door rtsp://10.0.0.5/1 tracker=bytetrack weight=2
    """
    body = {"id": stream_id, "url": url, **_parsed(settings or ())}
    return _report(_ask("POST", "", at, token, body), json, f"{stream_id} was added")


def change(stream_id: StreamId, settings: Settings, at: At = _DEFAULT, token: Token = None, json: Json = False) -> int:
    """Change a stream while it plays: max_fps, deadline, weight, min_fps, score_threshold.

    [bold]Example:[/bold] onpace streams change door max_fps=5 deadline=200ms
    """
    changes = _parsed(settings or ())
    return _report(_ask("PATCH", _of(stream_id), at, token, changes), json, f"{stream_id} was changed")


def pause(stream_id: StreamId, at: At = _DEFAULT, token: Token = None, json: Json = False) -> int:
    """Let a stream leave its source until it is resumed.

    [bold]Example:[/bold] onpace streams pause door
    """
    return _report(_ask("POST", f"{_of(stream_id)}/pause", at, token), json, f"{stream_id} is paused")


def resume(stream_id: StreamId, at: At = _DEFAULT, token: Token = None, json: Json = False) -> int:
    """End a pause: the source is opened anew, in a new epoch.

    [bold]Example:[/bold] onpace streams resume door
    """
    return _report(_ask("POST", f"{_of(stream_id)}/resume", at, token), json, f"{stream_id} is resumed")


def restart(stream_id: StreamId, at: At = _DEFAULT, token: Token = None, json: Json = False) -> int:
    """Let a stream leave its source and open it anew, in a new epoch.

    [bold]Example:[/bold] onpace streams restart door
    """
    return _report(_ask("POST", f"{_of(stream_id)}/restart", at, token), json, f"{stream_id} is opened again")


def remove(stream_id: StreamId, at: At = _DEFAULT, token: Token = None, json: Json = False) -> int:
    """Take a stream out of a running pipeline once its last frame has left.

    [bold]Example:[/bold] onpace streams remove door
    """
    answer = _ask("DELETE", _of(stream_id), at, token)
    dropped = sum(count for reasons in answer["dropped"].values() for count in reasons.values())
    counts = f"received {answer['received']}, published {answer['published']}, dropped {dropped}"
    words = f"{stream_id} was removed: {counts}" if answer["gone"] else f"{stream_id} goes once its source lets go"
    return _report(answer, json, words)


def _ask(method: str, path: str, at: str, token: str | None, body: Mapping[str, Any] | None = None) -> Any:
    """Return the answer. Raises InputError for what the server refuses, OnpaceError where it fails."""
    address = at.rstrip("/")
    if urllib.parse.urlsplit(address).scheme not in ("http", "https"):
        raise InputError(f"--at {printable(at)}: an address such as {_DEFAULT} is expected.")
    headers = {"Accept": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    data = None
    if body is not None:
        headers["Content-Type"] = "application/json"
        data = json_format.dumps(body).encode()
    try:
        request = urllib.request.Request(f"{address}/api/streams{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=_SECONDS) as response:
            return json_format.loads(response.read())
    except urllib.error.HTTPError as error:
        words = _refusal(error)
        raise (InputError if error.code < 500 else OnpaceError)(words) from None
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "reason", None) or error
        raise OnpaceError(
            f"{printable(at)}: {printable(str(why))}. Is a pipeline running there, with dashboard.listen set to it?"
        ) from None
    except ValueError:
        raise OnpaceError(
            f"{printable(at)} answered something that is not JSON: is it a pipeline's dashboard?"
        ) from None


def _refusal(error: urllib.error.HTTPError) -> str:
    try:
        found = json_format.loads(error.read())["error"]["message"]
        return "\n".join(map(printable, str(found).splitlines()))
    except (ValueError, KeyError, TypeError, OSError):
        return (
            f"{printable(error.url or '')}: {error.code} {printable(str(error.reason))}. Is it a pipeline's dashboard?"
        )


def _of(stream_id: str) -> str:
    return f"/{urllib.parse.quote(stream_id, safe='')}"


def _parsed(settings: Sequence[str]) -> dict[str, Any]:
    """Return ``["weight=2", "deadline=200ms"]`` as data: JSON where it is JSON, else text."""
    parsed: dict[str, Any] = {}
    for setting in settings:
        key, sign, text = setting.partition("=")
        if not sign or not key:
            raise InputError(f"{setting}: KEY=VALUE is expected, as in weight=2.")
        try:
            parsed[key] = json_format.loads(text)
        except ValueError:
            parsed[key] = text
    return parsed


def _report(answer: Any, json: bool, words: str) -> int:
    if json:
        _print(answer)
    else:
        print(printable(words))
    return exit_codes.DONE


def _print(answer: Any) -> None:
    print(json_format.dumps(answer, indent=2), file=sys.stdout)


COMMANDS: dict[str, Callable[..., int]] = {
    "list": list_streams,
    "add": add,
    "change": change,
    "pause": pause,
    "resume": resume,
    "restart": restart,
    "remove": remove,
}
