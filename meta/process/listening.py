"""The address that a service listens on: taken so that no other can share it, and tried out before a start."""

import errno
import socket

from meta.errors import Misconfigured, TryLater
from updater.net import addresses
from updater.service import listeners


def check(host: str, port: int, running: int | None) -> None:
    """Raises Misconfigured where nothing could listen there, and TryLater where something else does. running: the process that
    is stopped first, 0 for none; None where that is not known: then whatever listens there may be that one."""
    try:
        reserve(host, port).close()
    except TryLater:
        if running == 0 or (running and listeners.others_listen(host, port, running)):
            raise


def reserve(host: str, port: int) -> socket.socket:
    """A socket bound to this address, which keeps others from it and only lets our own worker listen there.

    granian listens with SO_REUSEPORT, under which a second meta would silently take half of the connections. So the port
    is first bound without it, which fails if anybody listens there. Raises Misconfigured or TryLater.
    """
    shown = addresses.shown(host, port)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or addresses.every_interface(),
            port,
            type=socket.SOCK_STREAM,
        )[0]
        reserved = socket.socket(family, kind, protocol)
    except OSError as e:
        raise Misconfigured(f"cannot listen on {shown}: {e.strerror}") from e
    try:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(address)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError as e:
        reserved.close()
        if e.errno == errno.EADDRINUSE:
            text = f"{shown} is in use: stop what listens there, or choose another address with --listen"
            raise TryLater(text) from e
        raise Misconfigured(f"cannot listen on {shown}: {e.strerror}") from e
    return reserved
