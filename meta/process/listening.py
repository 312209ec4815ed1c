"""Reserves the address that a service listens on, so that no other process can share it, and checks it before a start."""

import errno
import socket

from meta.errors import Misconfigured, TryLater
from updater.net import addresses
from updater.service import listeners


def check(host: str, port: int, running: int | None) -> None:
    """Raises Misconfigured if the address cannot be used, and TryLater if another process listens there.

    running: pid of the process that is stopped first, 0 for none; None if unknown: then any process there may be that one.
    """
    try:
        reserve(host, port).close()
    except TryLater:
        if running == 0 or (running and listeners.others_listen(host, port, running)):
            raise


def reserve(host: str, port: int) -> socket.socket:
    """A socket bound to this address, which reserves it before anything listens. Raises Misconfigured or TryLater."""
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
        reserved.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 0
        )  # else another process could bind it, until `listen`
    except OSError as e:
        reserved.close()
        if e.errno == errno.EADDRINUSE:
            text = f"{shown} is in use: stop the program that listens there, or choose another address with --listen"
            raise TryLater(text) from e
        raise Misconfigured(f"cannot listen on {shown}: {e.strerror}") from e
    return reserved


def listen(reserved: socket.socket, backlog: int) -> None:
    """Listen on a reserved socket: from now on nothing else can bind its address.

    Without the option, this and the next start would be kept from the address by connections that were closed a moment ago.
    """
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections inherit it
    reserved.listen(backlog)
