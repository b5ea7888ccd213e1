"""Who may read what is published: CURVE keys (CurveZMQ, RFC 26 of ZeroMQ) and a list of the subscribers let in.

A pair of keys is two files, as pyzmq writes them: ``NAME.key`` is public and given to the others; ``NAME.key_secret``
stays where it is. A publisher needs its own pair and the public keys of its subscribers; a subscriber its own pair and
the publisher's public key. Everything on the wire is then encrypted, and strangers get nothing.
"""

from __future__ import annotations

import contextlib
import logging
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq
import zmq.auth
from zmq.auth.thread import ThreadAuthenticator

from pipeline.errors import InputError

PUBLIC_SUFFIX, SECRET_SUFFIX = ".key", ".key_secret"

LARGEST_HANDSHAKE_BYTES = 512
"""CURVE's own commands take up to 384 bytes, more than any subscription."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, repr=False)
class KeyPair:
    """Both halves of one party's keys, Z85 text of 40 bytes. Never printed."""

    public: bytes
    secret: bytes


@dataclass(frozen=True, slots=True)
class PublisherKeys:
    """The publisher's side: its own keys, and the folder of public keys that are let in."""

    own: KeyPair
    allowed: Path
    """Read anew whenever somebody connects: a key added there is let in, one removed is refused from then on."""

    @classmethod
    def load(cls, secret_file: Path, allowed: Path) -> PublisherKeys:
        """Raises InputError where a file or the folder is no good."""
        if not allowed.is_dir():
            raise InputError(
                f"{allowed}: no such folder. Make it, and put the subscribers' {PUBLIC_SUFFIX} files there."
            )
        return cls(_load_pair(secret_file), allowed)

    def guard(self, context: zmq.Context[Any]) -> ThreadAuthenticator:
        """Ask who connects to the sockets of ``context`` that are bound from now on; ``stop`` it at the end."""
        guard = ThreadAuthenticator(context, log=_log)
        guard.start()
        guard.configure_curve_callback("*", _AllowList(self.allowed))
        return guard

    def protect(self, socket: zmq.Socket[bytes]) -> None:
        """Set the keys on a socket before it is bound."""
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, self.own.public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self.own.secret)


@dataclass(frozen=True, slots=True)
class SubscriberKeys:
    """The subscriber's side: its own keys, and the publisher's public key."""

    own: KeyPair
    publisher: bytes

    @classmethod
    def load(cls, secret_file: Path, publisher_file: Path) -> SubscriberKeys:
        """Raises InputError where a file is no good."""
        return cls(_load_pair(secret_file), _load(publisher_file)[0])

    def protect(self, socket: zmq.Socket[bytes]) -> None:
        """Set the keys on a socket before it connects."""
        socket.setsockopt(zmq.CURVE_SERVERKEY, self.publisher)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, self.own.public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self.own.secret)


def make_keys(path: Path) -> tuple[Path, Path]:
    """Write a new pair as ``path``.key and ``path``.key_secret; return both. Never writes over keys that exist."""
    public, secret = (path.with_name(path.name + suffix) for suffix in (PUBLIC_SUFFIX, SECRET_SUFFIX))
    for file in (public, secret):
        if file.exists():
            raise InputError(f"{file}: exists already, and keys in use are not written over. Choose another name.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        zmq.auth.create_certificates(path.parent, path.name)
        secret.chmod(0o600)
    except OSError as error:
        raise InputError(f"{path}: the keys cannot be written: {error.strerror}.") from error
    return public, secret


class _AllowList:
    """Answers pyzmq's authenticator from its own thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def callback(self, domain: str, key: bytes) -> bool:
        for file in self._folder.glob(f"*{PUBLIC_SUFFIX}"):
            with contextlib.suppress(InputError):
                if _load(file)[0] == key:
                    return True
        _log.warning("a subscriber was refused: its key %s is not in %s", key.decode("ascii", "replace"), self._folder)
        return False


def _load_pair(file: Path) -> KeyPair:
    public, secret = _load(file)
    if secret is None:
        raise InputError(f"{file}: holds no secret key. Name the {SECRET_SUFFIX} file that 'onpace keys' made.")
    if stat.S_IMODE(file.stat().st_mode) & 0o077:
        _log.warning("%s: other users of this machine can read this secret key. chmod 600 it.", file)
    return KeyPair(public, secret)


def _load(file: Path) -> tuple[bytes, bytes | None]:
    """Return public and secret key (None in a public file), each known to be a key."""
    try:
        public, secret = zmq.auth.load_certificate(file)
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: no key file, or not readable. 'onpace keys NAME' makes a pair.") from error
    for key in (public, secret):
        if key is not None and len(key) != 40:
            raise InputError(f"{file}: damaged, a key in it does not have 40 characters. Copy it again.")
    return public, secret
