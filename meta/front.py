"""The plain WSGI callable in front of Flask: heartbeats are answered here, everything else goes on to the framework.

Promises that slow senders cannot stop the others: a heartbeat's body holds one of the server's threads while it arrives, so
only so many may be on their way at once, and a part of that from one address.
"""

import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from meta.heartbeat import TEXT, Answer, Dialect
from updater.wire import MAX_BODY

if TYPE_CHECKING:
    from meta.service import Service

Environ = dict[str, Any]
Start = Callable[..., Any]
MAX_READING = 400  # bodies on their way at once; the server has more threads than that
MAX_READING_FROM_ONE = 256
FEW = 64  # on their way at once: nobody is counted yet
BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0)  # seconds, for the histogram
_DIALECTS = {"/heartbeat": Dialect.FALCON, "/api/heartbeat": Dialect.CORALDANE}
_STATUS = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
_NOSNIFF = ("X-Content-Type-Options", "nosniff")


class Beats:
    """What was answered: by status, and how long it took once the body was there. Counts since the start."""

    def __init__(self) -> None:
        self.by_status: Counter[int] = Counter()
        self.by_bucket = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0
        self._lock = threading.Lock()

    def note(self, status: int, seconds: float) -> None:
        with self._lock:
            self.by_status[status] += 1
            self.by_bucket[bisect_left(BUCKETS, seconds)] += 1
            self.seconds += seconds


class Front:
    """inner: the WSGI application for all other paths; clock: Unix seconds."""

    def __init__(
        self, service: "Service", inner: Callable[..., Iterable[bytes]], clock: Callable[[], float] = time.time
    ):
        self._service = service
        self._inner = inner
        self._clock = clock
        self._reading: Counter[str] = Counter()  # by address
        self._reading_now = 0
        self._lock = threading.Lock()

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        dialect = _DIALECTS.get(environ["PATH_INFO"])
        if dialect is None:
            return self._inner(environ, start)
        answer = self._answer(environ, dialect)
        headers = [("Content-Type", answer.content_type), ("Content-Length", str(len(answer.body))), _NOSNIFF]
        if answer.status in (429, 503):
            headers.append(("Retry-After", "5"))
        elif answer.status == 401:
            headers.append(("WWW-Authenticate", "Bearer"))
        elif answer.status == 405:
            headers.append(("Allow", "GET, POST"))
        start(_STATUS[answer.status], headers)
        return [answer.body]

    def _answer(self, environ: Environ, dialect: Dialect) -> Answer:
        service = self._service
        address, is_local = service.peer(environ)
        body = self._read(environ, address)
        if isinstance(body, Answer):
            return body
        began = time.perf_counter()
        authorization = environ.get("HTTP_AUTHORIZATION", "")
        answer = service.answer(body, address, authorization, is_local, self._clock(), dialect)
        service.beats.note(answer.status, time.perf_counter() - began)
        return answer

    def _read(self, environ: Environ, address: str) -> bytes | Answer:
        """The body, or why it was not read."""
        if environ["REQUEST_METHOD"] not in ("POST", "GET"):
            return Answer(405, TEXT, b"method not allowed\n")
        length = environ.get("CONTENT_LENGTH") or ""
        if length.isdecimal():
            wanted = int(length)
        elif "HTTP_TRANSFER_ENCODING" in environ:
            wanted = MAX_BODY + 1
        else:
            return b""
        if wanted > MAX_BODY + 1 or (length and wanted > MAX_BODY):
            return Answer(413, TEXT, b"request entity too large\n")
        limited = self._begin(address)
        if limited is None:
            return Answer(503, TEXT, b"too many reports are arriving slowly\n")
        try:
            body: bytes = environ["wsgi.input"].read(wanted) if wanted else b""
        except OSError:
            return Answer(400, TEXT, b"the body ended early\n")
        finally:
            self._end(address if limited else "")
        return body if len(body) <= MAX_BODY else Answer(413, TEXT, b"request entity too large\n")

    def _begin(self, address: str) -> bool | None:
        """Whether the address is counted (while few are on their way it need not be); None: no more now."""
        with self._lock:
            if self._reading_now < FEW:
                self._reading_now += 1
                return False
            if self._reading_now >= MAX_READING or self._reading[address] >= MAX_READING_FROM_ONE:
                return None
            self._reading_now += 1
            self._reading[address] += 1
            return True

    def _end(self, address: str) -> None:
        with self._lock:
            self._reading_now -= 1
            if address:
                self._reading[address] -= 1
                if not self._reading[address]:
                    del self._reading[address]
