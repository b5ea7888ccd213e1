"""JSON Lines: one message a line, into a file or to standard output.

Appends, always: a restart must not destroy what an earlier run wrote, and every line names its ``publisher`` run.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import stat
import sys

import msgspec

from pipeline.errors import UrlError
from pipeline.publish.curve import PublisherKeys
from pipeline.publish.messages import DetectionsMessage, StatusMessage
from pipeline.publish.sink import Encoded, Encoding

MOST_PENDING_BYTES = 4 * 1024 * 1024
"""What may wait in memory while the disk is full or the reader of a pipe is slow; what comes then is lost, counted."""

_WRITE_AT_BYTES = 64 * 1024
_MOST_BYTES_A_WRITE = 1024 * 1024

_log = logging.getLogger(__name__)


class JsonLinesSink:
    """Writes JSON Lines whatever ``encoding`` says. Not thread-safe: only the publish thread calls it.

    Waits for no pipe; a write to a regular file takes as long as its disk does.
    """

    def __init__(self, rest: str, encoding: Encoding = "json", keys: PublisherKeys | None = None) -> None:
        """Open ``PATH``, or standard output for ``-``. Raises UrlError where the path cannot be written.

        It is JSON whatever ``encoding`` says, and readable by whoever may read the file whatever ``keys`` there are.
        """
        self.address = f"jsonl:{rest}"
        self.lost = 0
        self.encoding: Encoding = "json"
        self._encode = msgspec.json.Encoder().encode
        self._pending = bytearray()
        self._broken = False
        self._loss_told = False
        self._file: int | None = _open(rest)
        regular = stat.S_ISREG(os.fstat(self._file).st_mode)
        # A pipe that polls as writable takes this much without waiting, and not a byte more for sure.
        self._bytes_a_write = _MOST_BYTES_A_WRITE if regular else select.PIPE_BUF
        self._poll = select.poll()
        self._poll.register(self._file, select.POLLOUT)
        if regular and _ends_within_a_line(rest):
            with contextlib.suppress(OSError):
                os.write(self._file, b"\n")  # a run that was killed left half a line: it must not spoil our first

    def send(self, message: DetectionsMessage | StatusMessage) -> None:
        """Append one line; it is written when enough have gathered, or by the next tick."""
        if self._has_room():
            self._append(self._encode(message))

    def forward(self, message: Encoded) -> None:
        """Append one line that is encoded already."""
        if self._has_room():
            self._append(message.json)

    def _has_room(self) -> bool:
        """Return whether one more line can be kept; count it as lost where not."""
        if self._broken or self._file is None:
            self._lose(1, "the reader is gone")
            return False
        if len(self._pending) > MOST_PENDING_BYTES:
            self.tick()
            if len(self._pending) > MOST_PENDING_BYTES:
                self._lose(1, "the disk is full, or the reader is too slow")
                return False
        return True

    def _append(self, line: bytes) -> None:
        self._pending += line
        self._pending += b"\n"
        if _WRITE_AT_BYTES <= len(self._pending) < 2 * _WRITE_AT_BYTES:
            self.tick()  # beyond that the writing is in trouble, and the regular tick is often enough to try

    def flush(self) -> None:
        """A tick comes soon enough: a file has time."""

    def tick(self) -> None:
        """Write what is pending, as far as that does not wait."""
        try:
            while self._pending and self._file is not None and self._poll.poll(0):
                written = os.write(self._file, self._pending[: self._bytes_a_write])
                del self._pending[:written]
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno == errno.EPIPE:
                self._broken = True
                self._lose_pending("the reader is gone")
            elif not self._loss_told:
                self._loss_told = True
                _log.warning("%s: %s. Keeping up to 4 MiB in memory until it can be written.", self.address, error)

    def close(self) -> None:
        """Write what can be written now and count the rest as lost. Closing twice is safe."""
        if self._file is None:
            return
        self.tick()
        self._lose_pending("closed before it could be written")
        os.close(self._file)
        self._file = None

    def _lose_pending(self, reason: str) -> None:
        lines = self._pending.count(b"\n")
        self._pending.clear()
        if lines:
            self._lose(lines, reason)

    def _lose(self, messages: int, reason: str) -> None:
        self.lost += messages
        if not self._loss_told:
            self._loss_told = True
            _log.warning("%s: messages are being lost: %s.", self.address, reason)


def _open(rest: str) -> int:
    try:
        if rest == "-":
            sys.stdout.flush()
            return os.dup(sys.stdout.fileno())
        # O_NONBLOCK: a FIFO that nobody reads must be refused here, not hang the start.
        return os.open(rest, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        reason = "nobody reads this FIFO yet; start its reader first" if error.errno == errno.ENXIO else error.strerror
        raise UrlError(f"sink 'jsonl:{rest}': {reason}. Give a file that can be written, or - for stdout.") from error


def _ends_within_a_line(path: str) -> bool:
    if path == "-":
        return False
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:
        return False  # empty, or not ours to read
