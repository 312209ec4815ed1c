"""Gives up a silent PostgreSQL. A server that is stopped or unreachable still looks connected, and libpq waits for it for ever.
After a time-out the socket is shut down, so that libpq sees an error.
"""

import logging
import os
import socket
import threading
from collections.abc import MutableMapping
from typing import Any

_WATCHED = "watched"  # where a connection's info keeps its timer
log = logging.getLogger(__name__)


class _Watched:
    """One connection's socket, under a duplicate descriptor, since libpq may close the original, which would be reused."""

    def __init__(self, descriptor: int, seconds: float):
        self._seconds = seconds
        self._socket = socket.socket(fileno=os.dup(descriptor))
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._hang_up)
        self._timer.daemon = True
        self._timer.start()

    def _hang_up(self) -> None:
        log.warning("the database has not answered for %g s: the connection is closed", self._seconds)
        with self._lock:
            if self._socket.fileno() >= 0:
                self._shut_down()

    def _shut_down(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError as e:
            log.debug("the connection was closed already: %s", e)
        self._socket.close()

    def end(self) -> None:
        self._timer.cancel()
        with self._lock:
            self._socket.close()


def watch(info: MutableMapping[Any, Any], connection: Any, seconds: float) -> None:
    """Shut this psycopg connection down after `seconds`, unless `watch` or `unwatch` is called before. info: its own dict."""
    unwatch(info)
    info[_WATCHED] = _Watched(connection.fileno(), seconds)


def unwatch(info: MutableMapping[Any, Any]) -> None:
    if watched := info.pop(_WATCHED, None):
        watched.end()
