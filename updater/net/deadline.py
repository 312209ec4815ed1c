"""One deadline for a whole HTTP exchange: when the time is up, the sockets of this thread's exchange are shut down.

A timeout of the HTTP library holds for one read only, so a server that sends a byte per second could keep a thread for hours.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType


class SocketTimer:
    """Shuts sockets down after `seconds`, unless it is ended before. on_expiry: called first."""

    def __init__(self, seconds: float, on_expiry: Callable[[], None] = lambda: None) -> None:
        self.expired = False  # the time was up before the end
        self._on_expiry = on_expiry
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._connected_at = 0.0  # monotonic seconds, 0 before the first connection
        self._timer = threading.Timer(seconds, self.expire)
        self._timer.daemon = True

    def start(self) -> None:
        self._timer.start()

    def add(self, descriptor: int) -> None:
        """Watch a socket, under a duplicate of its descriptor, because TLS takes over that of the plain socket."""
        with self._lock:
            self._connected_at = self._connected_at or time.monotonic()
            self._sockets.append(one := socket.socket(fileno=os.dup(descriptor)))
            if self.expired:  # the deadline passed between two connections of a redirect
                one.shutdown(socket.SHUT_RDWR)

    def connected_for(self) -> float:
        """Seconds since the first connection stood, 0 if none does."""
        return time.monotonic() - self._connected_at if self._connected_at else 0.0

    def end(self) -> None:
        self._timer.cancel()
        with self._lock:
            for one in self._sockets:
                one.close()
            self._sockets.clear()

    def expire(self) -> None:
        """End the exchange now, as if the time was up. Safe for threads."""
        self._on_expiry()
        with self._lock:
            self.expired = True
            for one in self._sockets:
                with contextlib.suppress(OSError):  # it was closed already
                    one.shutdown(socket.SHUT_RDWR)


class Deadline(SocketTimer):
    """Context manager: the exchange in its block may take `seconds`."""

    _of_thread = threading.local()

    @classmethod
    def watch(cls, sock: socket.socket) -> None:
        """Add a connection's new socket to the deadline of the current thread, if there is one."""
        current: Deadline | None = getattr(cls._of_thread, "current", None)
        if current is not None:
            current.add(sock.fileno())

    def __enter__(self) -> "Deadline":
        self._of_thread.current = self
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._of_thread.current = None
        self.end()
