"""One connection: reads requests, answers them in their order, and ends in an orderly way.

httptools parses. It limits nothing, so all limits of heads and bodies are kept here. Nothing here waits, and an exception costs
this connection alone.
"""

import asyncio
import logging
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from meta.door import head, limits
from meta.door.answering import FAILED, FULL, Answering
from meta.door.body_pipe import BodyPipe
from meta.door.request import TOO_LARGE, Request
from meta.heartbeat.responses import refusal
from updater.net.addresses import unmapped
from updater.wire.limits import MAX_BODY

if TYPE_CHECKING:
    from meta.door.door import Door

PIECE = 16 << 10  # bytes that the parser gets at once, so that a head cannot grow far beyond its limit unseen
STOPPING = refusal(503, "meta is being stopped")
_SLOW = refusal(408, "the request took too long to arrive")
_ENDED_EARLY = refusal(400, "the request ended early")
_INVALID = refusal(400, "this is no valid request of HTTP/1.1")
_REPEATED = refusal(400, "a header is repeated that must not be")
_LARGE_HEAD = refusal(431, f"the head is too large: at most {limits.MAX_HEAD:,} bytes")
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
log = logging.getLogger(__name__)


class Connection(Answering, asyncio.Protocol):
    """See the module. The parser calls `on_...`."""

    __slots__ = ("_names", "_parser", "_raw", "address")

    def __init__(self, door: "Door"):
        super().__init__(door)
        self.address = ""
        self._parser: HttpRequestParser | None = None
        self._names = door.names.known
        self._raw = 0  # bytes of a head so far

    # --- events of the transport ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self.address = unmapped(peer[0]) if peer else ""
        self._parser = HttpRequestParser(self)
        self.deadline = self._door.connections.now + limits.HEAD_WITHIN
        if refused := self._door.connections.enter(self):
            self._refuse(refused)
            if self._door.connections.is_overrun:
                transport.close()
        elif self._door.connections.stopping:
            self._refuse(STOPPING)

    def data_received(self, data: bytes) -> None:
        self._in_read = 0
        for at in range(0, len(data), PIECE):
            self._feed(data[at : at + PIECE] if len(data) > PIECE else data)

    def _feed(self, data: bytes) -> None:
        parser, request = self._parser, self._request
        if self._is_last or parser is None:
            self._drop(len(data))
            return
        if request is None or not request.is_headed:
            self._raw += len(data)
        else:
            request.raw += len(data)
        try:
            parser.feed_data(data)
        except HttpParserUpgrade:  # we answer, as if it were no request to upgrade, and take no other
            self._is_last = True
        except HttpParserError:
            self._refuse(_INVALID)
        except Exception:
            log.exception("a request failed")
            self._refuse(FAILED)
        request = self._request
        if request is not None and not self._is_last:
            self._bound(request)

    def eof_received(self) -> bool:
        self._is_eof = True
        self._stop_waiting(goes_on=False)
        if self._request is not None:
            self._refuse(_ENDED_EARLY)
            return True
        self._is_last = True
        if not self._is_busy and not self._has_output:
            self._end(lingers=False)
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """Take everything apart: a cycle would be left to the garbage collector."""
        if self.park is not None:
            self._door.parking.leave(self)
        for request in (self._request, self._current, *self._queue):
            if request is not None:
                self._release(request)
        self._parser = self._request = self._current = None
        self._queue.clear()
        self._is_last = True
        self._forget_output()
        self._door.connections.leave(self)

    # --- reading ---

    def _bound(self, request: Request) -> None:
        """Keep the limits of a request that is not whole yet, also of what the parser passes over without a word."""
        if request.is_timed is not request.is_headed:
            request.is_timed = request.is_headed
            self._allow(request.within if request.is_headed else limits.HEAD_WITHIN)
        if request.is_headed:
            if request.has_too_much_framing:
                self._refuse(TOO_LARGE)
        elif self._raw > limits.MAX_HEAD:
            self._refuse(_LARGE_HEAD)

    def on_message_begin(self) -> None:
        if not self._is_last:
            self._stop_waiting(goes_on=True)
            self._request = Request(self.address)
            self._raw = 0

    def on_url(self, url: bytes) -> None:
        request = self._request
        if request is not None:
            request.url = request.url + url if request.url else url

    def on_header(self, name: bytes, value: bytes) -> None:
        request = self._request
        if request is None or request.is_headed:  # a trailer
            return
        request.fields += 1
        request.head_size += len(name) + len(value) + 4
        key = self._names.get(name)
        if key is None:
            key = self._door.names.key(name)
        environ = request.environ
        if key in environ:
            if not head.add(environ, key, value.decode("latin-1")):
                self._refuse(_REPEATED)
        elif key:
            environ[key] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        request, parser = self._request, self._parser
        if request is None or parser is None:
            return
        method, version, door = parser.get_method().decode("ascii"), parser.get_http_version(), self._door
        wants_upgrade = parser.should_upgrade()
        request.is_last = version == "1.0" or wants_upgrade or not parser.should_keep_alive()
        if refused := request.headed(method, version, wants_upgrade, door.targets, door.paths):
            self._refuse(refused)
            return
        if not request.length:
            return
        if request.length > MAX_BODY:
            request.pipe = BodyPipe(partial(self._door.soon, self._wanted, request))
            self._take(request)
        elif request.expects and not self._must_wait:
            self._write(_CONTINUE)

    def on_body(self, data: bytes) -> None:
        request = self._request
        if request is None:
            return
        request.size += len(data)
        if request.pipe:
            request.pipe.feed(data)
            if request.pipe.is_full:
                self._pause()
            return
        if request.rest:
            request.rest.append(data)
        elif request.body:
            request.rest = [data]
        else:
            request.body = data
        if request.size > limits.FREE_BODY:
            more = request.size - limits.FREE_BODY - request.held
            request.held += more
            if not self._door.connections.hold(more):
                self._refuse(FULL)
        if request.size > MAX_BODY:
            if request.path:
                self._refuse(TOO_LARGE)
            else:  # the framework refuses it, in the form of its route
                self._request, self._is_last, request.is_last = None, True, True
                self._take(request)

    def on_message_complete(self) -> None:
        request = self._request
        if request is None:
            return
        self._request = None
        request.is_whole = True
        if request.is_last:
            self._is_last = True
        if request.pipe:
            request.pipe.end()
            self.deadline = inf
        else:
            self._take(request)

    def _wanted(self, request: Request) -> None:
        """A thread reads this large body, and there is room for more of it."""
        if request is not self._request or request is not self._current:
            return
        if request.expects:
            self._write(_CONTINUE)
        self._resume()

    def late(self, now: float) -> None:
        request = self._request
        if self.unread < now or self._is_last:
            self.abort()
        elif request is None:
            self._end(lingers=False)
        elif request.pipe and request.size - request.window >= limits.LEAST_SPEED * limits.SPEED_OVER:
            request.window = request.size
            self.deadline = now + limits.SPEED_OVER
        else:
            self._refuse(_SLOW)

    def stop(self) -> None:
        if not self._is_busy and not self._has_output and self._request is None and not self._is_last:
            self._end(lingers=False)

    def cut(self) -> None:
        if self._request is not None:
            self._refuse(STOPPING)
