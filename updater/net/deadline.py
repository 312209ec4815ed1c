"""One deadline for a whole HTTP exchange: when the time is up, the sockets of this thread's exchange are shut down.

A timeout of the HTTP library holds for one read only, so a server that sends a byte per second could keep a thread for hours.
"""

import contextlib
import os
import socket
import threading
from types import TracebackType


class Deadline:
    """Context manager: the exchange in its block may take `seconds`."""

    _of_thread = threading.local()

    def __init__(self, seconds: float) -> None:
        self.expired = False  # the time was up before the block ended
        self._lock = threading.Lock()
        self._sockets: list[int] = []
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True

    @classmethod
    def watch(cls, sock: socket.socket) -> None:
        """Add a connection's new socket to the deadline of the current thread, if there is one."""
        current: Deadline | None = getattr(cls._of_thread, "current", None)
        if current is None:
            return
        with current._lock:
            if current.expired:  # the deadline passed between two connections of a redirect
                sock.shutdown(socket.SHUT_RDWR)
            # A duplicate, because TLS takes over the descriptor of the plain socket.
            current._sockets.append(os.dup(sock.fileno()))

    def __enter__(self) -> "Deadline":
        self._of_thread.current = self
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._of_thread.current = None
        self._timer.cancel()
        with self._lock:
            for fd in self._sockets:
                os.close(fd)
            self._sockets.clear()

    def _expire(self) -> None:
        with self._lock:
            self.expired = True
            for fd in self._sockets:
                with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as sock:
                    sock.shutdown(socket.SHUT_RDWR)
