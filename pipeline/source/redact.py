"""Makes stream addresses safe to print, well formed or not."""

from __future__ import annotations

import re

HIDDEN = "***"

_SHOWN_KEYS = frozenset(
    {"camera", "ch", "channel", "channelid", "codec", "format", "fps", "frames", "id", "mode", "profile", "proto"}
    | {"resolution", "seed", "size", "stream", "streamtype", "subtype", "type", "unicast", "transportmode", "video"}
)
_KEY_VALUE = re.compile(r"([^&;=/?#]*)=([^&]*)")
_SHORT_VALUE = re.compile(r"[\w.\-]{0,24}\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LONGEST = 300
_URL = re.compile(r"\b[A-Za-z][A-Za-z0-9+.\-]*:/{1,3}\S+")


def redact_location(location: str) -> str:
    """Return a path and query with the value of every key hidden that is not known to be harmless.

    Cameras take passwords in queries under any name, and some in the path (``/user=a&password=b&channel=1.sdp``).
    """
    location, hash_sign, _ = location.partition("#")
    path, question_mark, query = location.partition("?")
    if query and "=" not in query:
        query = HIDDEN
    return (
        _KEY_VALUE.sub(_hide_value, path)
        + question_mark
        + _KEY_VALUE.sub(_hide_value, query)
        + (f"#{HIDDEN}" if hash_sign else "")
    )


def redact(text: str) -> str:
    """Return ``text``, which need not be a proper URL, without anything that may be a user or a password.

    A malformed URL cannot be taken apart reliably, so everything up to the last ``@`` goes.
    """
    shown = _CONTROL.sub("?", text)
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.\-]*://", shown)
    head = scheme[0] if scheme else ""
    rest = shown[len(head) :]
    if "@" in rest:
        rest = f"{HIDDEN}@{rest.rpartition('@')[2]}"
    if head:
        authority = re.match(r"[^/?#]*", rest)
        end = authority.end() if authority else 0
        host_and_port = re.sub(r":(?!\d{0,5}$)[^\]]*$", f":{HIDDEN}", rest[:end])
        rest = host_and_port + redact_location(rest[end:])
    elif "=" in rest:
        rest = _KEY_VALUE.sub(_hide_value, rest)
    shown = head + rest
    return shown if len(shown) <= _LONGEST else shown[:_LONGEST] + "..."


def redact_in(message: str) -> str:
    """Return a message without the users and passwords of URLs in it, also where a path library took one for a file's
    name, and made ``http:/user:password@host`` of it."""
    return _URL.sub(_hide_in_url, message)


def _hide_in_url(match: re.Match[str]) -> str:
    scheme, _, rest = match[0].partition(":")
    return redact(f"{scheme}://{rest.lstrip('/')}") if "@" in rest or "=" in rest else match[0]


def _hide_value(match: re.Match[str]) -> str:
    key, value = match[1], match[2]
    harmless = key.lower().lstrip("_") in _SHOWN_KEYS and _SHORT_VALUE.match(value)
    return f"{key}={value}" if harmless else f"{key}={HIDDEN}"
