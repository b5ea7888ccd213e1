"""Basic and Digest authentication (RFC 7617, RFC 2617), as far as cameras use it."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets

PARAMETER = re.compile(r'(\w+)=(?:"([^"]*)"|([^\s,]+))')


class Authenticator:
    """Checks the Authorization header of requests. ``scheme`` is "basic" or "digest"."""

    def __init__(self, user: str, password: str, scheme: str = "digest", realm: str = "camera") -> None:
        if scheme not in ("basic", "digest"):
            raise ValueError(f"auth must be 'basic' or 'digest', got {scheme!r}")
        self._user = user
        self._password = password
        self._scheme = scheme
        self._realm = realm
        self._nonce = secrets.token_hex(16)

    def challenge(self) -> str:
        """Return the value of the WWW-Authenticate header."""
        if self._scheme == "basic":
            return f'Basic realm="{self._realm}"'
        return f'Digest realm="{self._realm}", nonce="{self._nonce}"'

    def accepts(self, method: str, authorization: str | None) -> bool:
        """Say whether a request with this Authorization header may pass."""
        scheme, _, rest = (authorization or "").partition(" ")
        if scheme.lower() != self._scheme:
            return False
        if self._scheme == "basic":
            return rest.strip() == base64.b64encode(f"{self._user}:{self._password}".encode()).decode()
        given = {key: quoted or plain for key, quoted, plain in PARAMETER.findall(rest)}
        if given.get("username") != self._user or given.get("nonce") != self._nonce:
            return False
        return given.get("response") == self._digest(method, given)

    def _digest(self, method: str, given: dict[str, str]) -> str:
        who = md5(f"{self._user}:{self._realm}:{self._password}")
        what = md5(f"{method}:{given.get('uri', '')}")
        if "qop" not in given:
            return md5(f"{who}:{self._nonce}:{what}")
        return md5(f"{who}:{self._nonce}:{given.get('nc', '')}:{given.get('cnonce', '')}:{given['qop']}:{what}")


def md5(text: str) -> str:
    """Return the hexadecimal MD5 that Digest is built from."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
