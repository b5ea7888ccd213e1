"""What PyAV's exceptions mean for a stream: the cause, and words that hold no address."""

from __future__ import annotations

import errno

import av.error

from pipeline.errors import Cause

_BY_ERRNO = {
    errno.ECONNREFUSED: Cause.REFUSED,
    errno.ENOENT: Cause.NOT_FOUND,
    errno.ENODEV: Cause.NOT_FOUND,
    errno.ENXIO: Cause.NOT_FOUND,
    errno.EBUSY: Cause.BUSY,
    errno.EACCES: Cause.UNAUTHORISED,
    errno.EPERM: Cause.UNAUTHORISED,
    errno.ETIMEDOUT: Cause.UNREACHABLE,
    errno.EHOSTUNREACH: Cause.UNREACHABLE,
    errno.EHOSTDOWN: Cause.UNREACHABLE,
    errno.ENETUNREACH: Cause.UNREACHABLE,
    errno.ENETDOWN: Cause.UNREACHABLE,
    errno.EADDRNOTAVAIL: Cause.UNREACHABLE,
    errno.ECONNRESET: Cause.ENDED,
    errno.EPIPE: Cause.ENDED,
}


def reason(error: BaseException) -> str:
    """Return the error in words, without the address that PyAV puts into its message."""
    words = getattr(error, "strerror", None)
    return str(words) if words else type(error).__name__


def cause_of(error: BaseException) -> Cause:
    """Return the cause that decides how a stream that failed like this is retried."""
    if isinstance(error, (av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError)):
        return Cause.UNAUTHORISED
    if isinstance(error, av.error.HTTPNotFoundError):
        return Cause.NOT_FOUND
    # 453 (no bandwidth left), 503 and their like: the server is there and has no session to give.
    if isinstance(error, (av.error.HTTPOtherClientError, av.error.HTTPServerError)):
        return Cause.BUSY
    if isinstance(error, (av.error.DecoderNotFoundError, av.error.DemuxerNotFoundError)):
        return Cause.UNSUPPORTED
    number = getattr(error, "errno", None)
    return _BY_ERRNO.get(number, Cause.FAILED) if isinstance(number, int) else Cause.FAILED
