"""Who reaches a server, from the address that it listens on."""

from __future__ import annotations

import ipaddress


def host_of(listen: str) -> str:
    """Return the host of HOST:PORT, without brackets."""
    return listen.rpartition(":")[0].strip("[]").lower()


def is_loopback(listen: str) -> bool:
    """Whether only this machine reaches what listens on HOST:PORT."""
    host = host_of(listen)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
