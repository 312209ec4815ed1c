"""Ports of loopback for servers under test, each given once.

A port is below those that the kernel gives to outgoing connections: while a server is down, a client that tries to reach it
could otherwise be given that very port, and reach itself. While this process lives, no other process that asks here gets the
same port, so tests may run side by side.
"""

import random
import socket

_FIRST, _COUNT = 20_000, 12_000
_pick = random.SystemRandom()


def free_port() -> int:
    """A port on which nothing listens, reserved for this process."""
    for port in _pick.sample(range(_FIRST, _FIRST + _COUNT), _COUNT):
        if _is_free(port) and _reserve(port):
            return port
    raise RuntimeError(f"no free port from {_FIRST} to {_FIRST + _COUNT - 1}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: a port whose last connections still linger in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _reserve(port: int) -> bool:
    """Hold a name of this port among the abstract sockets; the kernel frees it when the process ends, however it ends."""
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(f"\0ops-updater-port-{port}")
    except OSError:
        name.close()
        return False
    name.detach()  # open for as long as the process lives
    return True
