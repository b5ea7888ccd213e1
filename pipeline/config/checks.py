"""Checks what a schema cannot: addresses, files, folders, and settings that contradict each other.

Looks at whatever parts are well formed, so that its problems are reported together with those of the schema.
"""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from engines.cpu_session import require_precision
from engines.errors import RuntimeMissingError
from pipeline.config.explain import did_you_mean
from pipeline.config.marked_yaml import Document
from pipeline.config.problem import KeyPath
from pipeline.config.values import parse_switch
from pipeline.dashboard.reach import is_loopback
from pipeline.errors import SourceError, UrlError
from pipeline.plan import LIVE_SCHEMES
from pipeline.publish.sink import SINKS
from pipeline.publish.zmq_address import parse_zmq_address
from pipeline.samples import find_sample
from pipeline.source.address import ALLOWED, Address, parse_address
from pipeline.source.source import SourceOptions, open_source

_OPENED_TO_SEE = frozenset({"file", "images"})
"""Sources that can be opened in a few milliseconds, and will be no different when they are needed."""

_SHORTEST_TOKEN = 16


def resolve_paths(document: Document) -> Any:
    """Return the data with the paths in it, which are relative to the configuration's folder, made absolute."""
    data = copy.deepcopy(document.data)
    for path, resolve in _paths_in(document):
        value = document.get(path)
        if isinstance(value, str) and value:
            parent: Any = data
            for part in path[:-1]:
                parent = parent[part]
            parent[path[-1]] = resolve(value, document.folder)
    return data


def check_meaning(document: Document) -> None:
    """Add every problem and warning that takes more than the schema to see."""
    _check_ids(document)
    for path in _items(document, "streams"):
        _check_stream(document, path)
    _check_policy(document)
    _check_model(document, ("infer", "model"))
    for path in _items(document, "infer", "smaller"):
        _check_model(document, path)
    _check_precision(document)
    _check_sinks(document)
    _check_dashboard(document)


def _items(document: Document, *section: str) -> Iterator[KeyPath]:
    entries = document.get(section)
    for index in range(len(entries)) if isinstance(entries, list) else ():
        yield (*section, index)


def _paths_in(document: Document) -> Iterator[tuple[KeyPath, Callable[[str, Path], str]]]:
    yield ("infer", "model"), _resolve_plain
    for path in _items(document, "infer", "smaller"):
        yield path, _resolve_plain
    yield ("engine", "store"), _resolve_plain
    for path in _items(document, "infer", "calibration"):
        yield path, _resolve_url
    for key in ("keys", "allow"):
        yield ("publish", "curve", key), _resolve_plain
    for path in _items(document, "publish", "sinks"):
        yield path, _resolve_sink
    for path in _items(document, "streams"):
        yield (*path, "url"), _resolve_url


def _resolve_plain(value: str, folder: Path) -> str:
    return value if value.startswith("sample:") else str(folder / value)


def _resolve_sink(value: str, folder: Path) -> str:
    scheme, _, rest = value.partition(":")
    return f"jsonl:{folder / rest}" if scheme == "jsonl" and rest not in ("", "-") else value


def _resolve_url(value: str, folder: Path) -> str:
    scheme, colon, rest = value.partition(":")
    if not colon or "/" in scheme:
        return str(folder / value)
    if scheme.lower() in ("file", "images", "recording") and not rest.startswith("/") and rest not in ("", "-"):
        return f"{scheme}:{folder / rest}"
    return value


# --- streams


def _check_ids(document: Document) -> None:
    first: dict[str, KeyPath] = {}
    for stream in _items(document, "streams"):
        path = (*stream, "id")
        stream_id = document.get(path)
        if not isinstance(stream_id, str) or path in document.unusable:
            continue
        if stream_id in first:
            line = document.line(first[stream_id])
            where = f", first on line {line}" if line else ""
            shown = document.shown(path)
            document.problem(path, f"{shown} is used twice{where}. Give every stream its own id.", shown)
        first.setdefault(stream_id, path)


def _check_stream(document: Document, stream: KeyPath) -> None:
    path = (*stream, "url")
    address = _address(document, stream)
    if address is None:
        return
    live = address.scheme in LIVE_SCHEMES
    loop = (*stream, "loop")
    if live and _is_on(document.get(loop)):
        document.problem(loop, f"true: a {_kind(address)} has no end to begin again at. Remove it.", "true")
    shown = document.shown(path)
    if address.scheme == "file" and not Path(address.location).exists():
        document.problem(path, f"{shown}: no such file.{_relative_to(document)}", shown)
    elif address.scheme in _OPENED_TO_SEE and (reason := _why_not_opened(document, path)):
        document.problem(path, f"{shown} cannot be played." if path in document.templates else reason, shown)


def _why_not_opened(document: Document, path: KeyPath) -> str | None:
    """Open what lies on this machine for a moment: a file that holds no video is bad input, told before the start."""
    source = open_source(_resolve_url(document.get(path), document.folder), SourceOptions(), threading.Event())
    try:
        source.open()
    except SourceError as error:
        return str(error)
    finally:
        source.close()
    return None


def _address(document: Document, stream: KeyPath) -> Address | None:
    """Return the stream's address; None, with a problem, where it cannot be used."""
    path = (*stream, "url")
    url = document.get(path)
    if not isinstance(url, str) or not url or path in document.unusable:
        return None
    shown = document.shown(path)
    try:
        address = parse_address(_resolve_url(url, document.folder))
        return address.with_credentials(_text(document, stream, "username"), _text(document, stream, "password"))
    except UrlError as error:
        scheme = url.partition(":")[0]
        schemes = [word.rstrip(":/") for word in ALLOWED.split(", ") if word.endswith((":", "/"))]
        hint = did_you_mean(scheme, schemes) if scheme not in schemes and path not in document.templates else ""
        # The parser's words may quote parts of a value that came from outside.
        reason = f"{shown} is no usable address. Allowed: {ALLOWED}." if path in document.templates else str(error)
        document.problem(path, reason + hint, shown)
    except (OSError, ValueError):
        document.problem(path, f"{shown} is no usable address. Allowed: {ALLOWED}.", shown)
    return None


def _text(document: Document, stream: KeyPath, key: str) -> str | None:
    value = document.get((*stream, key))
    return value if isinstance(value, str) and (*stream, key) not in document.unusable else None


def _relative_to(document: Document) -> str:
    """Say what a path is relative to: a document with lines was a file; elsewhere it is where the command was typed."""
    return " Paths are relative to the configuration's folder." if document.lines else ""


def _is_on(value: Any) -> bool:
    try:
        return parse_switch(value)
    except ValueError:
        return False


def _is_camera(document: Document, path: KeyPath) -> bool:
    url = document.get(path)
    try:
        return isinstance(url, str) and parse_address(_resolve_url(url, document.folder)).scheme in LIVE_SCHEMES
    except (UrlError, OSError, ValueError):
        return False  # told already


def _kind(address: Address) -> str:
    return "camera" if address.scheme == "camera" else "live stream"


def _check_policy(document: Document) -> None:
    """A camera cannot wait: what a blocked reader leaves in its buffers comes back as age, then as an error."""
    remedy = "Use drop_oldest, or auto."
    for stream in _items(document, "streams"):
        if not _is_camera(document, (*stream, "url")):
            continue
        own = (*stream, "policy")
        if document.get(own) == "block":
            document.problem(own, f"block would make the camera wait, and it cannot. {remedy}", "block")
        elif document.get(own) is None and document.get(("decode", "policy")) == "block":
            name = f"streams[{stream[-1]}]"
            document.problem(
                ("decode", "policy"), f"block would make the camera of {name} wait, and it cannot. {remedy}", "block"
            )


# --- model and sinks


def _check_model(document: Document, path: KeyPath) -> None:
    model = document.get(path)
    if not isinstance(model, str) or not model or path in document.unusable:
        return
    shown = document.shown(path)
    try:
        if model.startswith("sample:"):
            find_sample(model.removeprefix("sample:"))
        elif (document.folder / model).is_dir():
            document.problem(path, f"{shown} is a folder. Name an ONNX file in it.", shown)
        elif not (document.folder / model).is_file():
            document.problem(path, f"{shown}: no such file.{_relative_to(document)}", shown)
    except UrlError as error:
        reason = f"{shown}: no such sample." if path in document.templates else str(error)
        document.problem(path, reason, shown)
    except (OSError, ValueError):
        document.problem(path, f"{shown} is no usable path.", shown)


def _check_precision(document: Document) -> None:
    path = ("infer", "precision")
    precision, runtime = document.get(path), document.get(("infer", "runtime"))
    if runtime in ("cpu", "cuda") and precision in ("bf16", "fp8"):
        try:
            require_precision(runtime, precision)
        except RuntimeMissingError as error:
            document.problem(path, str(error), str(precision))
    if precision in ("int8", "fp8") and not document.get(("infer", "calibration")):
        message = (
            f"{precision} takes its ranges from pictures. Write infer.calibration beside it: videos, folders of "
            "pictures or recordings."
        )
        document.problem(path, message, str(precision))


def _check_sinks(document: Document) -> None:
    seen: set[str] = set()
    for path in _items(document, "publish", "sinks"):
        sink = document.get(path)
        if not isinstance(sink, str) or path in document.unusable:
            continue
        shown = document.shown(path)
        scheme, _, rest = sink.partition(":")
        if sink in seen:
            document.problem(path, f"{shown} is written twice. Remove one of them.", shown)
        elif scheme not in SINKS or not rest:
            known = path in document.templates or scheme in SINKS
            hint = "" if known else did_you_mean(scheme, list(SINKS))
            document.problem(
                path, f"{shown}: allowed are zmq:tcp://HOST:PORT, zmq:ipc://PATH, jsonl:PATH.{hint}", shown
            )
        elif scheme == "zmq":
            _check_zmq(document, path, rest)
        elif scheme == "jsonl" and rest != "-":
            _check_jsonl(document, path, rest)
        seen.add(sink)


def _check_dashboard(document: Document) -> None:
    listen, token = document.get(("dashboard", "listen")), document.get(("dashboard", "token"))
    path = ("dashboard", "token")
    if isinstance(token, str) and len(token) < _SHORTEST_TOKEN:
        document.problem(path, f"is too short to be no guess; allowed: {_SHORTEST_TOKEN} characters or more.")
    elif token is None and isinstance(listen, str) and listen != "auto" and not is_loopback(listen):
        shown = document.shown(("dashboard", "listen"))
        document.problem(
            ("dashboard", "listen"),
            f"{shown} is reached from other machines, and wants a token. Set dashboard.token to ${{NAME}} or "
            "${file:PATH}, or listen on 127.0.0.1.",
            shown,
        )


def _check_zmq(document: Document, path: KeyPath, rest: str) -> None:
    shown = document.shown(path)
    try:
        address = parse_zmq_address(rest, bind=True)
    except UrlError as error:
        allowed = "Allowed: tcp://HOST:PORT with port 1 to 65535, or ipc://PATH."
        secret = path in document.templates or "@" in rest
        document.problem(path, f"{shown} is no usable address. {allowed}" if secret else str(error), shown)
        return
    if not address.loopback and document.get(("publish", "curve")) is None:
        document.warn(
            path,
            f"{shown} can be read by every machine that reaches this one: nothing is encrypted and nobody is asked "
            "who they are. Set publish.curve, or use 127.0.0.1 unless the network is trusted.",
        )


def _check_jsonl(document: Document, path: KeyPath, rest: str) -> None:
    shown = document.shown(path)
    try:
        file = document.folder / rest
        if not file.parent.is_dir():
            message = f"{shown}: the folder does not exist. Make it, or name another."
        elif file.is_dir():
            message = f"{shown} is a folder. Name a file in it."
        elif not os.access(file if file.exists() else file.parent, os.W_OK):
            message = f"{shown} may not be written by this user. Change its permissions, or name another."
        else:
            return
    except (OSError, ValueError):
        message = f"{shown} is no usable path."
    document.problem(path, message, shown)
