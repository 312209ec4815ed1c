"""Gives up a silent PostgreSQL. A server that is stopped or unreachable still looks connected, and libpq waits for it for ever.
After a time-out the socket is shut down, so that libpq sees an error.
"""

import logging
from collections.abc import MutableMapping
from typing import Any

from updater.net.deadline import SocketTimer

_TIMER = "timer"  # where a connection's info keeps it
log = logging.getLogger(__name__)


def watch(info: MutableMapping[Any, Any], connection: Any, seconds: float) -> None:
    """Shut this psycopg connection down after `seconds`, unless `watch` or `unwatch` is called before. info: its own dict."""
    unwatch(info)
    text = "the database has not answered for %g s: the connection is closed"
    timer = info[_TIMER] = SocketTimer(seconds, lambda: log.warning(text, seconds))
    timer.add(connection.fileno())
    timer.start()


def has_given_up(info: MutableMapping[Any, Any]) -> bool:
    """Whether the connection was shut down because the time was up."""
    return _TIMER in info and info[_TIMER].expired


def unwatch(info: MutableMapping[Any, Any]) -> None:
    if timer := info.pop(_TIMER, None):
        timer.end()
