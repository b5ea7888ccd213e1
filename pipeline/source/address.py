"""Reads stream addresses: what may be opened is decided here, before anything is."""

from __future__ import annotations

import glob
import ipaddress
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote, unquote

from pipeline.errors import UrlError
from pipeline.frame import Size
from pipeline.source.redact import HIDDEN, redact, redact_location

ALLOWED = (
    "rtsp://, rtsps://, a file's path, file:, a folder or glob of pictures, "
    "images:, camera:, pattern:, recording:, sample:"
)

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})

# Formats whose only content is other addresses: a demuxer that follows them would open what nobody allowed.
_PLAYLIST_SUFFIXES = frozenset(
    {".asx", ".concat", ".cue", ".ffconcat", ".ffmeta", ".ism", ".ismc", ".m3u", ".m3u8"}
    | {".mpd", ".pls", ".ram", ".sdp", ".smil", ".txt", ".wpl", ".xspf"}
)
# Cloud machines serve credentials on these to anything that connects from inside.
_METADATA_HOSTS = frozenset({"169.254.169.254", "fd00:ec2::254", "100.100.100.200"})

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*(?=:)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)(?!\d+\Z)[A-Za-z0-9_](?:[A-Za-z0-9_\-]*[A-Za-z0-9_])?(?:\.[A-Za-z0-9_\-]+)*\.?\Z"
)
_DEVICE = re.compile(r"/dev/[A-Za-z0-9_.:+\-/]+\Z")


@dataclass(frozen=True, repr=False)
class Address:
    """Where a stream is. ``repr`` and ``redacted`` are safe to print; ``url`` and ``location`` are not."""

    scheme: str
    """Key of ``SOURCES``."""
    redacted: str
    """The address for people and logs: no user, no password, no secret of the query."""
    location: str
    """The path of a file, a folder, a glob or a device; path and query of an RTSP URL."""
    host: str | None = None
    port: int | None = None
    username: str | None = None
    password: str | None = None
    size: Size | None = None
    """Cameras and patterns: asked for with ``?size=640x360``."""
    fps: float | None = None
    """Cameras, patterns, pictures: asked for with ``?fps=25`` (pictures: ``#fps=2``)."""
    frames: int | None = None
    """Patterns: how many before the end; None never ends."""
    seed: int = 0
    input_format: str | None = None
    """Cameras: asked for with ``?format=mjpeg``."""

    def __repr__(self) -> str:
        return f"Address({self.redacted})"

    @property
    def url(self) -> str:
        """The RTSP URL with credentials. Only for the call that opens it."""
        user_info = ""
        if self.username is not None:
            user_info = quote(self.username, safe="")
            if self.password is not None:
                user_info += ":" + quote(self.password, safe="")
            user_info += "@"
        return f"{self.scheme}://{user_info}{self._authority()}{self.location}"

    def with_credentials(self, username: str | None, password: str | None) -> Address:
        """Return the same address with these credentials; None keeps what the URL says."""
        if username is None and password is None:
            return self
        merged = replace(
            self,
            username=self.username if username is None else username,
            password=self.password if password is None else password,
        )
        if merged.username is None:
            raise UrlError(f"{self.redacted}: a password without a user name. Set the stream's username too.")
        _refuse_control(merged.username + (merged.password or ""), self.redacted)
        return replace(merged, redacted=merged._redacted())

    def _authority(self) -> str:
        host = self.host or ""
        bracketed = f"[{host}]" if ":" in host else host
        return bracketed if self.port is None else f"{bracketed}:{self.port}"

    def _redacted(self) -> str:
        user_info = f"{HIDDEN}@" if self.username is not None else ""
        return f"{self.scheme}://{user_info}{self._authority()}{redact_location(self.location)}"


def parse_address(url: str) -> Address:
    """Return what ``url`` names. Opens nothing. Raises UrlError for everything that is not allowed."""
    if not url or not url.strip():
        raise UrlError(f"'': an address is empty. Allowed: {ALLOWED}.")
    if url != url.strip():
        raise UrlError(f"{redact(url)!r}: spaces before or after the address. Remove them.")
    _refuse_control(url, redact(url))
    scheme = _SCHEME.match(url)
    if scheme is None or "/" in url[: scheme.end()]:
        return _parse_plain_path(url)
    name, rest = scheme[0].lower(), url[scheme.end() + 1 :]
    if name in ("rtsp", "rtsps"):
        return _parse_rtsp(name, rest, url)
    if name == "file":
        return _file(_file_path(rest, url), url)
    if name == "images":
        return _parse_images(rest, url)
    if name == "camera":
        return _parse_camera(rest, url)
    if name == "pattern":
        return _parse_pattern(rest, url)
    if name == "recording":
        return _parse_recording(rest, url)
    if name == "sample":
        return _parse_sample(rest)
    raise UrlError(f"{redact(url)}: this kind of address is not allowed. Allowed: {ALLOWED}. {_remedy(url)}")


def is_metadata_host(host: str) -> bool:
    """Return whether ``host``, a literal address, is a cloud machine's credential service."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address) in _METADATA_HOSTS


def _remedy(url: str) -> str:
    if "//" in url:
        return "A stream of another kind has to be offered by an RTSP server."
    return "A file whose name holds ':' is written as file:NAME."


def _refuse_control(text: str, shown: str) -> None:
    if _CONTROL.search(text):
        raise UrlError(f"{shown}: a control character in the address. Remove it.")


# --- RTSP


def _parse_rtsp(scheme: str, rest: str, url: str) -> Address:
    shown = redact(url)
    if not rest.startswith("//"):
        raise UrlError(f"{shown}: '//' is missing. Write {scheme}://HOST[:PORT]/PATH.")
    if re.search(r"\s", rest):
        raise UrlError(f"{shown}: a space in the address. Write %20.")
    user_info, host, port, location = _split_rtsp(rest[2:], shown, scheme)
    username = password = None
    if user_info is not None:
        raw_name, colon, raw_password = user_info.partition(":")
        username, password = unquote(raw_name), unquote(raw_password) if colon else None
        # A line break here would end a header line of the request.
        _refuse_control(username + (password or ""), shown)
    if is_metadata_host(host):
        raise UrlError(f"{shown}: this host serves a cloud machine's credentials, not video. Name the camera's host.")
    bare = Address(scheme, "", location, host=host, port=port, username=username, password=password)
    return replace(bare, redacted=bare._redacted())


def _split_rtsp(rest: str, shown: str, scheme: str) -> tuple[str | None, str, int | None, str]:
    """Return user info, host, port and location.

    People write passwords raw, with ``@ / : # ?`` in them. Each ``@`` (or none) may be the one before the host; an
    address that reads in two ways is refused, because guessing would send the password to the wrong host.
    """
    readings = []
    at_signs = [-1, *(index for index, letter in enumerate(rest) if letter == "@")]
    for at in at_signs:
        after = rest[at + 1 :]
        end = re.match(r"[^/?#]*", after)
        authority = end[0] if end else ""
        host_and_port = _parse_authority(authority)
        if host_and_port is not None:
            readings.append((None if at < 0 else rest[:at], *host_and_port, after[len(authority) :]))
    if len(readings) > 1 and readings[0][0] is None and ":" not in rest[: at_signs[-1]]:
        readings = readings[:1]  # without ':' before it there is no password: the '@' belongs to the path
    if len(readings) == 1:
        return readings[0]
    if readings:
        raise UrlError(
            f"{shown}: reads in more than one way, because of '@', '/', '?' or '#' in the user, password or path. "
            "Percent-encode them ('@' is %40, '/' is %2F), or set the stream's username and password apart."
        )
    raise UrlError(
        f"{shown}: no valid host and port (1 to 65535). Write {scheme}://HOST[:PORT]/PATH, "
        "and set the stream's username and password apart if they hold odd characters."
    )


def _parse_authority(authority: str) -> tuple[str, int | None] | None:
    match = re.match(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]@]+)(?::(\d{1,5}))?\Z", authority)
    if match is None:
        return None
    host, port = match[1].strip("[]"), int(match[2]) if match[2] else None
    if port is not None and not 1 <= port <= 65535:
        return None
    if match[1].startswith("[") or re.fullmatch(r"[\d.]+", host):
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return None
        return host, port
    return (host, port) if _HOST_NAME.match(host) else None


# --- files and pictures


def _parse_plain_path(url: str) -> Address:
    path = Path(url)
    if _DEVICE.match(url) and url.startswith(("/dev/video", "/dev/v4l/")):
        return _parse_camera(url, f"camera:{url}")
    if path.is_dir():
        return Address("images", url, url)
    if path.suffix.lower() in PICTURE_SUFFIXES or (glob.has_magic(url) and not path.exists()):
        return _parse_images(url, url)
    # FFmpeg reads "subfile,,start,0,end,9,,:x" and the like as protocols.
    if ":" in url.partition("/")[0]:
        raise UrlError(f"{redact(url)}: this kind of address is not allowed. Allowed: {ALLOWED}. {_remedy(url)}")
    return _file(url, url)


def _file(path: str, shown: str) -> Address:
    if path == "-":
        raise UrlError(f"'-': standard input is not a source. Allowed: {ALLOWED}.")
    suffix = Path(path).suffix.lower()
    if suffix in _PLAYLIST_SUFFIXES:
        raise UrlError(
            f"{redact(shown)}: '{suffix}' is a playlist, which names other files, and is not allowed. "
            "Name the video file itself."
        )
    return Address("file", redact(shown), path)


def _file_path(rest: str, url: str) -> str:
    path = rest
    if rest.startswith("//"):
        host, slash, tail = rest[2:].partition("/")
        if host not in ("", "localhost") or not slash:
            raise UrlError(f"{redact(url)}: a file on another host is not allowed. Write file:///PATH or file:PATH.")
        path = "/" + unquote(tail)
        _refuse_control(path, redact(url))
    if not path:
        raise UrlError(f"{redact(url)}: the path is missing. Write file:PATH.")
    return path


def _parse_images(rest: str, url: str) -> Address:
    path, hash_sign, fragment = rest.rpartition("#fps=")
    if not hash_sign:
        return Address("images", url, _images_path(rest, url))
    return Address("images", url, _images_path(path, url), fps=_number(fragment, "fps", url, 0.001, 1000.0))


def _images_path(path: str, url: str) -> str:
    if not path:
        raise UrlError(f"{url}: the folder or glob is missing. Write images:FOLDER or images:FOLDER/*.jpg.")
    if _SCHEME.match(path) or "://" in path:
        raise UrlError(f"{redact(url)}: only a folder, a picture or a glob may follow 'images:'.")
    return path


def _parse_recording(path: str, url: str) -> Address:
    if not path or "://" in path:
        raise UrlError(f"{redact(url)}: write recording:FOLDER, a folder that `onpace record` made.")
    return Address("recording", redact(url), path)


def _parse_sample(name: str) -> Address:
    from pipeline.samples import find_sample

    path = find_sample(name)
    return replace(_parse_plain_path(str(path)), redacted=f"sample:{name}")


# --- cameras and patterns


def _parse_camera(rest: str, url: str) -> Address:
    device, _, query = rest.partition("?")
    asked = _Query(query, ("size", "fps", "format"), url)
    if re.fullmatch(r"\d{1,3}", device):
        device = f"/dev/video{int(device)}"
    elif not _DEVICE.match(device) or ".." in device:
        raise UrlError(f"{redact(url)}: no such kind of camera. Write camera:0 or camera:/dev/video0.")
    return Address("camera", redact(url), device, size=asked.size(), fps=asked.fps(), input_format=asked.input_format())


def _parse_pattern(rest: str, url: str) -> Address:
    nothing, _, query = rest.partition("?")
    if nothing:
        raise UrlError(f"{redact(url)}: write pattern:?size=640x360&fps=25&frames=100&seed=1 (all of it optional).")
    asked = _Query(query, ("size", "fps", "frames", "seed"), url)
    return Address(
        "pattern",
        redact(url),
        "",
        size=asked.size(smallest=64),  # the pictures carry their number in blocks
        fps=asked.fps(),
        frames=asked.whole("frames", 1, 1_000_000_000),
        seed=asked.whole("seed", 0, 2**32 - 1) or 0,
    )


@dataclass(frozen=True)
class _Query:
    text: str
    keys: tuple[str, ...]
    url: str
    values: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for pair in filter(None, self.text.split("&")):
            key, _, value = pair.partition("=")
            if key not in self.keys or key in self.values:
                problem = "is given twice" if key in self.values else "is unknown"
                raise UrlError(f"{redact(self.url)}: option '{key}' {problem}. Allowed: {', '.join(self.keys)}.")
            self.values[key] = value

    def size(self, smallest: int = 16) -> Size | None:
        text = self.values.get("size")
        if text is None:
            return None
        match = re.fullmatch(r"(\d{2,5})x(\d{2,5})", text)
        if match is None or not all(smallest <= int(side) <= 8192 for side in match.groups()):
            allowed = f"WIDTHxHEIGHT of {smallest} to 8192, as in 640x360"
            raise UrlError(f"{redact(self.url)}: size '{text:.40}' is not {allowed}.")
        return Size(int(match[1]), int(match[2]))

    def fps(self) -> float | None:
        text = self.values.get("fps")
        return None if text is None else _number(text, "fps", self.url, 0.001, 1000.0)

    def whole(self, key: str, least: int, most: int) -> int | None:
        text = self.values.get(key)
        return None if text is None else int(_number(text, key, self.url, least, most, r"\d{1,10}"))

    def input_format(self) -> str | None:
        text = self.values.get("format")
        if text is not None and not re.fullmatch(r"[a-z0-9_]{1,20}", text):
            raise UrlError(f"{redact(self.url)}: format '{text:.40}' is not a name such as mjpeg, yuyv422 or h264.")
        return text


def _number(text: str, key: str, url: str, least: float, most: float, form: str = r"\d{1,4}(?:\.\d{1,6})?") -> float:
    if not re.fullmatch(form, text) or not least <= float(text) <= most:
        raise UrlError(f"{redact(url)}: {key} '{text:.40}' is not a number of {least:g} to {most:g}.")
    return float(text)
