"""Calls the WSGI application in a bounded pool of threads: with a whole body, or with one that is large and still arrives.

The loop has read the head before, and sends the answer after. So no client can hold a thread, except by a large body: that has
a least speed, and threads of its own.
"""

import asyncio
import io
import logging
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, NamedTuple

from meta.artifacts.file_part import FilePart
from meta.door.limits import LARGE_BODIES, MAX_WAITING, THREADS
from meta.heartbeat.responses import CLOSE, Answer, refusal, rendered

CROWDED = refusal(503, "too many requests are under way")
SMALL = 64 << 10  # bytes of a file that are read at once
_FAILED = refusal(500, "internal error")
log = logging.getLogger(__name__)
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
Work = Callable[[], Callable[[], None]]


class Response(NamedTuple):
    """What the framework answers: a head with its blank line, and bytes or a part of a file. The head says `Connection: close`
    if `is_last`."""

    head: bytes
    body: list[bytes]
    file: FilePart | None = None

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return sum(map(len, self.body))


class Pool:
    """Threads, started when they are needed. They are daemons: a stop waits for what they do, but not for ever."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, threads: int, waiting: int):
        self._loop = loop
        self._name = name
        self._most = threads
        self._waiting = waiting
        self._threads = 0
        self._under_way = 0  # with those that wait
        self._queue: SimpleQueue[Work] = SimpleQueue()

    def submit(self, work: Work) -> bool:
        """Have a thread do this work, and the loop what it returns. Returns False if too much waits. For the loop's thread."""
        if self._under_way >= self._most + self._waiting:
            return False
        if self._threads < min(self._under_way + 1, self._most):
            try:
                Thread(target=self._run, name=f"{self._name}-{self._threads + 1}", daemon=True).start()
                self._threads += 1
            except RuntimeError:  # the machine has no more
                if not self._threads:
                    return False
        self._under_way += 1
        self._queue.put(work)
        return True

    def _run(self) -> None:
        while True:
            with suppress(RuntimeError):  # the loop is closed
                # No variable holds the work or the answer: the thread would keep both alive until its next work.
                self._loop.call_soon_threadsafe(self._finish, self._queue.get()())

    def _finish(self, then: Callable[[], None]) -> None:
        self._under_way -= 1
        then()


class Framework:
    """The application. `base` is the part of an environ that all requests share. date: returns the Date header, as a line."""

    def __init__(self, loop: asyncio.AbstractEventLoop, application: Application, date: Callable[[], bytes]):
        self._application = application
        self.base: dict[str, Any] = {
            "SCRIPT_NAME": "",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
        }
        self._date = date
        self._whole = Pool(loop, "framework", THREADS, MAX_WAITING)
        self._large = Pool(loop, "large bodies", LARGE_BODIES, 0)

    def call(
        self, environ: dict[str, Any], body: bytes | io.RawIOBase, is_last: bool, then: Callable[[Response], None]
    ) -> bool:
        """Have a thread answer, and the loop do `then`. body: bytes, or a stream. Returns False if too many are under way."""
        stream = io.BytesIO(body) if isinstance(body, bytes) else body

        def work() -> Callable[[], None]:
            response = self._answer(self.base | environ | {"wsgi.input": stream}, is_last)
            return lambda: then(response)

        return (self._whole if isinstance(body, bytes) else self._large).submit(work)

    def _answer(self, environ: dict[str, Any], is_last: bool) -> Response:
        try:
            return self._called(environ, is_last)
        except Exception:
            log.exception("%s failed", environ["REQUEST_METHOD"])
            return self.ready(_FAILED, is_last)

    def ready(self, answer: Answer, is_last: bool) -> Response:
        """An answer that is rendered already."""
        return Response(answer.start + self._date(), [answer.closed if is_last else answer.kept])

    def _called(self, environ: dict[str, Any], is_last: bool) -> Response:
        line = ""
        headers: list[tuple[str, str]] = []
        written: list[bytes] = []

        def start(status: str, given: list[tuple[str, str]], _error: Any = None) -> Callable[[bytes], None]:
            nonlocal line, headers
            line, headers = status, given
            return written.append

        parts = self._application(environ, start)
        try:
            if isinstance(parts, FilePart) and parts.length > SMALL:
                file, parts = parts, ()
                return Response(self._head(line, headers, is_last), [], file)
            body = [*written, *parts]
        finally:
            getattr(parts, "close", lambda: None)()
        if not (line.startswith(("204", "304")) or any(name.lower() == "content-length" for name, _ in headers)):
            headers = [*headers, ("Content-Length", str(sum(map(len, body))))]
        return Response(self._head(line, headers, is_last), body)

    def _head(self, line: str, headers: list[tuple[str, str]], is_last: bool) -> bytes:
        close = CLOSE if is_last else b""
        return b"".join(
            (b"HTTP/1.1 ", line.encode("latin-1"), b"\r\n", self._date(), close, rendered(headers), b"\r\n")
        )
