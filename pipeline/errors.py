"""The exceptions of ``pipeline``. Each message says what, the value, what is allowed, what to do.

OnpaceError
├── InputError            bad input of the user: exit code 2
│   ├── ConfigError       a configuration file or command-line value
│   ├── UrlError          a source or sink address
│   ├── AccuracyLostError a precision that costs more accuracy than is allowed
│   └── StreamError       a stream that cannot be added, changed or found while running
├── SourceError           a stream failed; carries the cause that decides how it is retried
└── StageError            a stage failed while running: exit code 1
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum


class OnpaceError(Exception):
    """Base of everything that ``pipeline`` raises on purpose."""


class InputError(OnpaceError):
    """The user's input cannot be used. Ends the command with exit code 2."""


class ConfigError(InputError):
    """One or more problems of a configuration; the message lists all of them, a line each."""


class UrlError(InputError):
    """A source or sink address that is malformed or not allowed. Never holds a password."""


class AccuracyLostError(InputError):
    """A precision that costs a model more accuracy than the user allows."""


class StreamError(InputError):
    """What was asked of a running pipeline cannot be done; ``known`` tells whether there is such a stream."""

    def __init__(self, message: str, *, known: bool = True) -> None:
        super().__init__(message)
        self.known = known

    @classmethod
    def unknown(cls, stream_id: str, stream_ids: Iterable[str]) -> StreamError:
        """Return the error for a stream that is none of ``stream_ids``."""
        there = ", ".join(list(stream_ids)[:20]) or "none"
        return cls(f"stream '{stream_id[:80]}': there is no such stream. There are: {there}.", known=False)


class Cause(str, Enum):
    """Why a stream is not delivering. Decides how (and whether) it is retried."""

    REFUSED = "refused"  # nothing listens there
    UNREACHABLE = "unreachable"  # no route, no such host, open timed out
    UNAUTHORISED = "unauthorised"  # wrong or missing credentials: hammering locks cameras
    NOT_FOUND = "not_found"  # the server has no such stream; the file or device does not exist
    BUSY = "busy"  # the server or device has no session left
    UNSUPPORTED = "unsupported"  # no decoder, no video, too large
    STALLED = "stalled"  # connected, but no pictures for the read timeout
    ENDED = "ended"  # the peer ended the stream
    CORRUPT = "corrupt"  # undecodable for too long
    FAILED = "failed"  # anything else


class SourceError(OnpaceError):
    """A stream cannot be opened or read. ``str()`` is safe to print: URLs in it are redacted."""

    def __init__(self, message: str, *, cause: Cause) -> None:
        super().__init__(message)
        self.cause = cause


class CutOffError(SourceError):
    """A file ends before all of what it says it holds; what there is was read."""

    def __init__(self, message: str) -> None:
        super().__init__(message, cause=Cause.CORRUPT)


class StageError(OnpaceError):
    """A stage failed while running."""

    def __init__(self, message: str, *, stage: str, stream_id: str | None = None) -> None:
        super().__init__(message)
        self.stage = stage
        self.stream_id = stream_id
