"""The WSGI callable in front of Flask: answers heartbeats itself, and passes everything else on to the framework.

Slow senders cannot stop others: while a body arrives it occupies one of the server's threads. So the number of bodies that are
read at the same time is limited, in total and per address.
"""

import time
from collections.abc import Callable, Iterable
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any

from meta.access.clients import client_address, host_refusal, is_local, page_refusal
from meta.heartbeat.answer import answer
from meta.heartbeat.cpu_affinity import OneCpu
from meta.heartbeat.dialects import Dialect
from meta.heartbeat.responses import Answer, refusal
from updater.net.addresses import unmapped
from updater.wire.limits import MAX_BODY

if TYPE_CHECKING:
    from meta.service import Service

Environ = dict[str, Any]
Start = Callable[..., Any]
MAX_DRAINED = 2 * MAX_BODY  # bytes of a body that is refused but still read, so that its sender can read the answer
MAX_READING = 400  # bodies that are read at the same time; the server has more threads
MAX_READING_FROM_ONE = 256  # of these, from one address
MAX_PASSING = 96  # requests with a body that the framework handles at the same time
FEW = 64  # up to so many bodies at the same time, the limits are not checked
_DIALECTS = {"/heartbeat": Dialect.FALCON, "/api/heartbeat": Dialect.CORALDANE}
_NOT_ALLOWED = refusal(405, "method not allowed")
_TOO_LARGE = refusal(413, f"request entity too large: at most {MAX_BODY:,} bytes")
_CROWDED = refusal(503, "too many reports are arriving slowly")
_ENDED_EARLY = refusal(400, "the body ended early")


class Front:
    """The WSGI callable. inner: the application for all other paths."""

    def __init__(self, service: "Service", inner: Callable[..., Iterable[bytes]]):
        self._inner = partial(service.requests.handle, inner)
        self._now = service.clock.now
        self._beats = service.beats
        self._pin = OneCpu(service.settings.pin_threads)
        self._table = service.table
        self._may_report = service.host_tokens.may_report
        self._anonymous = service.settings.anonymous_hosts
        self._proxies = service.settings.trusted_proxies
        self._passing: set[int] = set()  # threads in which the framework reads a body
        self._reading: dict[int, str] = {}  # thread -> address of the body that it reads; atomic under the GIL

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        if (peer := environ.get("REMOTE_ADDR") or "").startswith("::ffff:"):
            environ["REMOTE_ADDR"] = unmapped(peer)
        dialect = _DIALECTS.get(environ["PATH_INFO"])
        if dialect is None:
            return self._pass_on(environ, start)
        self._pin()
        address = client_address(environ, self._proxies) if self._proxies else environ.get("REMOTE_ADDR") or ""
        authorization = environ.get("HTTP_AUTHORIZATION", "")
        anonymous = self._anonymous
        if anonymous is None:
            anonymous = not authorization and is_local(environ)
        body = self._refused(environ, anonymous) or self._read(environ, address)
        if isinstance(body, Answer):
            told = body
            self._beats.refused(told.status)
        else:
            began = time.perf_counter()
            told = answer(self._table, self._may_report, body, address, authorization, anonymous, self._now(), dialect)
            self._beats.note(told.status, time.perf_counter() - began)
        start(told.line, told.headers)
        return told.parts

    def _refused(self, environ: Environ, anonymous: bool) -> Answer | None:
        """A refusal of a request that a web page sends from a browser, or None."""
        why = page_refusal(environ)
        if not why and anonymous and self._anonymous is None:
            why = host_refusal(environ)
        return refusal(403, why) if why else None

    def _pass_on(self, environ: Environ, start: Start) -> Iterable[bytes]:
        """Pass a request to the framework; if too many have bodies, refuse it, since slow bodies occupy threads."""
        if environ.get("CONTENT_LENGTH") in (None, "", "0") and "HTTP_TRANSFER_ENCODING" not in environ:
            return self._inner(environ, start)
        passing, me = self._passing, get_ident()
        passing.add(me)
        try:
            if len(passing) > MAX_PASSING:
                start(_CROWDED.line, _CROWDED.headers)
                return _CROWDED.parts
            return self._inner(environ, start)
        finally:
            passing.discard(me)

    def _read(self, environ: Environ, address: str) -> bytes | Answer:
        """The body, or why it was not read."""
        if environ["REQUEST_METHOD"] not in ("POST", "GET"):
            return _NOT_ALLOWED
        length = environ.get("CONTENT_LENGTH") or ""
        if length.isdecimal():
            if len(length) > 9 or int(length) > MAX_DRAINED:
                return _TOO_LARGE
            wanted = int(length)
        elif "HTTP_TRANSFER_ENCODING" in environ:
            wanted = MAX_DRAINED
        else:
            return b""
        reading, me = self._reading, get_ident()
        reading[me] = address
        try:
            if len(reading) > FEW and self._is_crowded(address):
                return _CROWDED
            body: bytes = environ["wsgi.input"].read(wanted)
        except OSError:
            return _ENDED_EARLY
        finally:
            del reading[me]
        return body if len(body) <= MAX_BODY else _TOO_LARGE

    def _is_crowded(self, address: str) -> bool:
        """Whether too many bodies are being read; the current one is included."""
        addresses = list(self._reading.values())
        return len(addresses) > MAX_READING or addresses.count(address) > MAX_READING_FROM_ONE
