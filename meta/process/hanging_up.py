"""Lets a worker stop soon: once no whole request is under way, it hangs up on clients that have sent only a part of one.

The server itself would wait for them until it is killed.
"""

import itertools
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from weakref import finalize

GRACE = 1.0  # seconds from the signal on, for requests that have just arrived
EVERY = 0.1  # seconds between two looks

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Requests:
    """The requests that an application handles. Safe for threads."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._whole: set[int] = set()  # numbers of those under way, except while their bodies are being waited for

    @property
    def are_done(self) -> bool:
        """Whether no whole request is under way."""
        return not self._whole

    def handle(self, inner: Application, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Pass a request on to an application. It is under way until its response was sent."""
        number = next(self._numbers)
        self._whole.add(number)
        environ["wsgi.input"] = _Body(environ["wsgi.input"], partial(self._waiting, number))
        try:
            return _Parts(inner(environ, start), partial(self._whole.discard, number))
        except BaseException:
            self._whole.discard(number)
            raise

    @contextmanager
    def _waiting(self, number: int) -> Iterator[None]:
        self._whole.discard(number)
        try:
            yield
        finally:
            self._whole.add(number)


class _Body:
    """A request's body; `waiting` is the context of each read."""

    def __init__(self, inner: Any, waiting: Callable[[], Any]) -> None:
        self._inner = inner
        self._waiting = waiting

    def read(self, *size: int) -> bytes:
        with self._waiting():
            return bytes(self._inner.read(*size))

    def readline(self, *size: int) -> bytes:
        with self._waiting():
            return bytes(self._inner.readline(*size))

    def readlines(self, *size: int) -> list[bytes]:
        with self._waiting():
            return list(self._inner.readlines(*size))

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")


class _Parts:
    """A response; `end` is called when it is closed, or garbage-collected: a server may forget it when a client leaves."""

    def __init__(self, inner: Iterable[bytes], end: Callable[[], None]) -> None:
        self._inner = inner
        self._end = finalize(self, end)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._inner)

    def close(self) -> None:
        try:
            getattr(self._inner, "close", lambda: None)()
        finally:
            self._end()


def when_it_stops(requests: Requests, port: int) -> None:
    """Hang up as this module says, from the next SIGTERM on. To be called in the main thread; signal handlers stay as they are.

    port: where this process listens.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    threading.Thread(target=_wait, args=(read, requests, port), name="hanging up", daemon=True).start()


def _wait(read: int, requests: Requests, port: int) -> None:
    while signal.SIGTERM not in os.read(read, 64):
        pass
    time.sleep(GRACE)
    while True:
        if requests.are_done:
            for connection in _connections(port):
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RD)  # what is still to be sent is sent
        time.sleep(EVERY)


def _connections(port: int) -> Iterator[socket.socket]:
    """The open connections of clients, each as a duplicate."""
    for file in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if not file.is_socket():
                continue
            with socket.socket(fileno=os.dup(int(file.name))) as one:
                is_ours = one.family in (socket.AF_INET, socket.AF_INET6) and one.getsockname()[1] == port
                if is_ours and one.getpeername():
                    yield one
