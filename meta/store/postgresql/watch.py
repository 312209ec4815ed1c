"""Gives a PostgreSQL up that is silent. A server that is stopped, or behind a line that swallows everything, still looks
connected, and libpq waits for its answer without end: after a while its socket is shut down under it, and it sees an error.
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
    """One connection's socket, under a descriptor of our own that nobody else closes and uses again."""

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
    """End this psycopg connection in so many seconds, unless it is watched anew or no longer. info: what is kept with it."""
    unwatch(info)
    info[_WATCHED] = _Watched(connection.fileno(), seconds)


def unwatch(info: MutableMapping[Any, Any]) -> None:
    if watched := info.pop(_WATCHED, None):
        watched.end()
