"""Where services listen and who calls them."""

import socket

import pytest

from updater.net import addresses


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("127.0.0.1:2000", ("127.0.0.1", 2000)),
        (":2001", ("", 2001)),
        ("meta.example:0", ("meta.example", 0)),
        ("[::1]:65535", ("::1", 65535)),
        ("[::]:2316", ("::", 2316)),
    ],
)
def test_where_to_listen_can_be_read_and_is_shown_as_it_was_written(listen, expected):
    assert addresses.parse_listen(listen) == expected
    assert addresses.shown(*expected) == listen


@pytest.mark.parametrize(
    "listen", ["", "2000", "host", "host:", "host:x", "host:65536", "::1:2000", "http://host:1", "a b:1", "h:１", ":²"]
)
def test_what_is_no_place_to_listen(listen):
    with pytest.raises(ValueError, match="HOST:PORT"):
        addresses.parse_listen(listen)


def test_every_interface_hears_ipv4_and_ipv6():
    address = addresses.every_interface()
    with socket.socket(addresses.family(address), socket.SOCK_STREAM) as server:
        server.bind((address, 0))
        server.listen()
        port = server.getsockname()[1]
        for host in ("127.0.0.1", "::1") if address == "::" else ("127.0.0.1",):
            with socket.create_connection((host, port), timeout=10):
                peer, (caller, *_) = server.accept()
                peer.close()
                assert addresses.unmapped(caller) == host
                assert addresses.is_loopback(caller)


@pytest.mark.parametrize("host", ["127.0.0.1", "::", ""])
def test_what_listens_here_is_reached_from_here(host):
    address = host or addresses.every_interface()
    with socket.socket(addresses.family(address), socket.SOCK_STREAM) as server:
        server.bind((address, 0))
        server.listen()
        socket.create_connection((addresses.from_here(address), server.getsockname()[1]), timeout=10).close()


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:0:1", "::ffff:0:1"),  # not as any socket writes it
        ("", ""),
    ],
)
def test_an_ipv4_address_inside_ipv6_is_that_address(address, expected):
    assert addresses.unmapped(address) == expected


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_loopback(address):
    assert addresses.is_loopback(address)


@pytest.mark.parametrize("address", ["10.0.0.1", "::", "0.0.0.0", "::ffff:10.0.0.1", "localhost", "", "fe80::1"])
def test_not_loopback(address):
    assert not addresses.is_loopback(address)
