"""One deadline for a whole exchange: when the time is up, the sockets that this thread's exchange uses are shut down.

A timeout of the HTTP library holds for one read only, so a server that drips a byte a second would hold us for hours.
"""

import contextlib
import os
import socket
import threading
from types import TracebackType


class Deadline:
    """A block that has so many seconds; `expired` says whether they were over before it ended."""

    _of_thread = threading.local()

    def __init__(self, seconds: float) -> None:
        self.expired = False
        self._lock = threading.Lock()
        self._sockets: list[int] = []
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True

    @classmethod
    def watch(cls, sock: socket.socket) -> None:
        """Called by a connection with its new socket."""
        current: Deadline | None = getattr(cls._of_thread, "current", None)
        if current is None:
            return
        with current._lock:
            if current.expired:  # a redirect met the deadline between two connections
                sock.shutdown(socket.SHUT_RDWR)
            # A duplicate, because TLS takes the descriptor of the plain socket over.
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
