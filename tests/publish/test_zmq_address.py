"""Addresses are checked before libzmq sees them."""

from __future__ import annotations

import pytest

from pipeline.errors import UrlError
from pipeline.publish.zmq_address import parse_zmq_address


@pytest.mark.parametrize("port", ["0", "65536", "99999", "-1", "+5", "abc", "", "*", "٣"])
def test_a_port_outside_1_to_65535_is_refused(port: str) -> None:
    with pytest.raises(UrlError, match="is not a number from 1 to 65535"):
        parse_zmq_address(f"tcp://127.0.0.1:{port}", bind=True)


@pytest.mark.parametrize(
    "text",
    ["", "tcp://", "tcp://:5555", "tcp://host", "udp://127.0.0.1:5", "inproc://x", "127.0.0.1:5555", "tcp://a b:5"],
)
def test_what_is_no_address_is_refused_with_examples(text: str) -> None:
    with pytest.raises(UrlError, match=r"expected tcp://HOST:PORT or ipc://PATH, as in tcp://127.0.0.1:5555"):
        parse_zmq_address(text, bind=True)


def test_ipc_paths_must_fit_a_unix_socket() -> None:
    with pytest.raises(UrlError, match="Unix sockets take up to 107"):
        parse_zmq_address("ipc:///" + "x" * 107, bind=True)
    with pytest.raises(UrlError, match="a path must follow"):
        parse_zmq_address("ipc://", bind=True)


def test_a_star_can_be_bound_and_not_connected_to() -> None:
    assert not parse_zmq_address("tcp://*:5555", bind=True).loopback
    with pytest.raises(UrlError, match="name the host to connect to"):
        parse_zmq_address("tcp://*:5555", bind=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "[::1]", "localhost"])
def test_loopback_is_known(host: str) -> None:
    assert parse_zmq_address(f"tcp://{host}:5555", bind=True).loopback


def test_localhost_is_bound_as_a_number_and_ipv6_is_seen() -> None:
    assert parse_zmq_address("tcp://localhost:05555", bind=True).url == "tcp://127.0.0.1:5555"
    assert parse_zmq_address("tcp://[::1]:5555", bind=True).ipv6
