"""Tells systemd that this service is ready and alive (sd_notify), if the unit asks for it."""

import os
import socket
from contextlib import suppress


class Notifier:
    """Sends to the socket that systemd names in NOTIFY_SOCKET. Never waits, and does nothing without it."""

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) if address else None

    def say(self, what: str) -> None:
        """what: as sd_notify(3) has it, like `READY=1` or `WATCHDOG=1`."""
        if self._socket:
            with suppress(OSError):  # systemd is busy, or not there any more
                self._socket.sendto(what.encode(), self._address)

    def close(self) -> None:
        if self._socket:
            self._socket.close()
