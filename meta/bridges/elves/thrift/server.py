"""The Thrift server that elves-agents call: plain TCP, one event loop, thousands of connections at once.

Every connection has limited memory, and a deadline that slow sending does not extend. Invalid bytes close only their own
connection. An internal error is answered with a Thrift exception, never with an empty list of apps.
"""

import asyncio
import errno
import logging
import time
from collections.abc import Callable
from contextlib import suppress

from meta.bridges.elves.counters import Numbers
from meta.bridges.elves.heartbeat import Undecided
from meta.bridges.elves.limits import MAX_CONNECTIONS, MAX_HELD
from meta.bridges.elves.rate_limited_log import RateLimitedLog
from meta.bridges.elves.thrift.codec import (
    INTERNAL_ERROR,
    METHOD,
    PROTOCOL_ERROR,
    UNKNOWN_METHOD,
    Call,
    parse_call,
    render_exception,
    render_result,
)
from meta.bridges.elves.thrift.framing import Malformed, Messages
from meta.bridges.elves.translator import Info
from meta.errors import Misconfigured, TryLater
from meta.process.clock import SYSTEM, Now
from updater.wire.text import one_line

READ_WITHIN = 10.0  # seconds for one message, from the start of the connection or from the previous answer
LIVE_WITHIN = 60.0  # seconds for a connection with all its messages
SWEEP_EVERY = 0.5  # seconds
BACKLOG = 4096
Beat = Callable[[Info, str, float], str]
log = logging.getLogger(__name__)


class ThriftServer:
    """The server, in one event loop. Times are in seconds.

    beat: returns the text of the answer, from the agent's values, its address and the time.
    """

    def __init__(
        self,
        beat: Beat,
        numbers: Numbers,
        read_within: float = READ_WITHIN,
        live_within: float = LIVE_WITHIN,
        max_connections: int = MAX_CONNECTIONS,
        max_held: int = MAX_HELD,
        now: Now = SYSTEM.now,
    ):
        self.beat = beat
        self.numbers = numbers
        self.read_within = read_within
        self.live_within = live_within
        self.max_connections = max_connections
        self.max_held = max_held
        self.now = now
        self.connections: set[_Connection] = set()
        self.held = 0
        self.limited_log = RateLimitedLog()
        self._server: asyncio.Server | None = None
        self._sweeping: asyncio.TimerHandle | None = None

    async def start(self, ip: str, port: int) -> tuple[str, int]:
        """Start to listen. Returns (ip, port). ip: "" for all interfaces. Raises TryLater or Misconfigured."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(lambda: _Connection(self), ip or None, port, backlog=BACKLOG)
        except (OSError, UnicodeError) as e:
            text = f"cannot listen for elves-agents on {ip or '*'}:{port}: {getattr(e, 'strerror', None) or e}"
            raise (TryLater if getattr(e, "errno", 0) == errno.EADDRINUSE else Misconfigured)(text) from e
        self._sweep()
        address = self._server.sockets[0].getsockname()
        return address[0], address[1]

    async def stop(self, within: float = 2.0) -> None:
        """Stop accepting connections. Those that are sending a message have `within` seconds to complete it."""
        if self._server:
            self._server.close()
        deadline = time.monotonic() + within
        while time.monotonic() < deadline and any(c.messages.held for c in self.connections):
            await asyncio.sleep(0.02)
        for connection in list(self.connections):
            connection.close()
        if self._sweeping:
            self._sweeping.cancel()

    def _sweep(self) -> None:
        """Close the connections that are past their deadline. One timer serves all connections."""
        now = time.monotonic()
        for connection in [c for c in self.connections if c.deadline <= now]:
            connection.late()
        every = min(SWEEP_EVERY, self.read_within / 4)
        self._sweeping = asyncio.get_running_loop().call_later(every, self._sweep)

    def answer(self, call: Call, peer: str) -> bytes:
        """Return the bytes of the answer to a call."""
        if call.method != METHOD:
            self.numbers.add("thrift_exceptions")
            text = f"there is no method {one_line(call.method, 80)}"
            return render_exception(call.method, call.sequence, UNKNOWN_METHOD, text)
        if call.info is None:
            self.numbers.add("thrift_exceptions")
            return render_exception(METHOD, call.sequence, PROTOCOL_ERROR, "the call has no AgentInfo")
        try:
            return render_result(self.beat(call.info, peer, self.now()), call.sequence)
        except Undecided as e:
            self.limited_log.say(log, "%s gets an exception, and so changes nothing: %s", peer, e)
            text = str(e)
        except Exception:  # noqa: BLE001 (the agent must see any failure, and change nothing)
            text = "the heartbeat from %s failed; the agent gets an exception, and so changes nothing"
            self.limited_log.say(log, text, peer, trace=True)
            text = "internal error"
        self.numbers.add("thrift_exceptions")
        return render_exception(METHOD, call.sequence, INTERNAL_ERROR, text)


class _Connection(asyncio.Protocol):
    def __init__(self, server: ThriftServer):
        self._server = server
        self.messages = Messages()
        self._held = 0
        self._peer = ""
        self._transport: asyncio.Transport
        self.deadline = 0.0  # monotonic seconds
        self._end = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if peer else "?"
        self._server.numbers.add("thrift_connections")
        if len(self._server.connections) >= self._server.max_connections:
            self._refuse("too many connections")
            return
        self._server.connections.add(self)
        self._end = time.monotonic() + self._server.live_within
        self._wait()

    def _wait(self) -> None:
        self.deadline = min(time.monotonic() + self._server.read_within, self._end)

    def late(self) -> None:
        if self.messages.held and not self._transport.is_closing():
            self._refuse("its message was not complete in time")
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            for message in self.messages.feed(data):
                self._transport.write(self._server.answer(parse_call(message), self._peer))
                self._wait()
        except Malformed as e:
            self._refuse(str(e))
            return
        self._count(self.messages.held)
        if self._server.held > self._server.max_held:
            self._refuse("too many incomplete messages at once")

    def _count(self, held: int) -> None:
        self._server.held += held - self._held
        self._held = held

    def _refuse(self, why: str) -> None:
        self._server.numbers.add("thrift_refused")
        self._server.limited_log.say(log, "the connection of %s is closed: %s", self._peer, why)
        self.close()

    def close(self) -> None:
        """Close the connection. Answers that are written already are still sent."""
        self._transport.close()

    def pause_writing(self) -> None:
        with suppress(RuntimeError):
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        with suppress(RuntimeError):
            self._transport.resume_reading()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._count(0)
        self._server.connections.discard(self)
