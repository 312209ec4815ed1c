"""Puts the parts of the door together, opens it, and closes it in an orderly way."""

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from meta.access.clients import Network
from meta.door.connections import Connections
from meta.door.downloads import Downloads
from meta.door.framework import Application, Framework
from meta.door.head import Names, Target
from meta.door.parking import Parking, Rules
from meta.door.protocol import Connection
from meta.door.request import Path, Request
from meta.process import listening
from meta.process.counts import Counts

BACKLOG = 4096  # connections that are not accepted yet
UNSENT = 128 << 10  # bytes of a connection that the kernel keeps before they go out
GRACE = 1.0  # seconds of a stop, for requests that have just begun to arrive
READ_WITHIN = 0.2  # seconds of a stop, for clients that were refused to read why
TURNS = 5  # of the loop, in which those that were just being accepted come up, and are ended too
LOOK = 0.02  # seconds between two looks at what a stop waits for


class Limits(NamedTuple):
    """The limits that settings give."""

    connections: int
    of_one: int  # connections of one client
    rate: int  # bytes a second of all downloads; 0 for no limit
    trusted: Sequence[Network] = ()  # proxies, which have no limit of their own


class Door:
    """What all connections share. paths: the hot paths; refused: told the status of each hot request that is refused."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        paths: dict[str, Path],
        application: Application,
        limits: Limits,
        parks: Rules,
        counts: Counts,
        refused: Callable[[int], None],
    ):
        self.loop = loop
        self.paths = paths
        self.targets = {path.encode("latin-1"): Target(path, "") for path in paths}
        self.counts = counts
        self.names = Names()
        self.connections = Connections(counts, limits.connections, limits.of_one, limits.trusted)
        self.parking = Parking(self.connections, counts, parks)
        self.downloads = Downloads(limits.rate)
        self.framework = Framework(loop, application, self.date)
        self._refused = refused
        self._server: asyncio.Server | None = None
        self._sweeps: asyncio.TimerHandle | None = None

    def date(self) -> bytes:
        """The Date header, as a line."""
        return self.connections.date

    def soon(self, call: Callable[..., object], *arguments: object) -> None:
        """Have the loop make this call, from any thread; not if meta has stopped."""
        with suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(call, *arguments)

    def refused(self, status: int, request: Request | None) -> None:
        """Count a refusal. request: None if it is of the connection, or nothing is known of the request."""
        self.counts.refused[status] += 1
        if request is not None and request.path is not None:
            self._refused(status)

    async def listen(self, sock: socket.socket) -> None:
        """Listen on a socket that is reserved."""
        # Connections inherit it. Else the kernel would take megabytes for each client that does not read.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
        listening.listen(sock, BACKLOG)
        address, port = sock.getsockname()[:2]
        self.framework.base |= {"SERVER_NAME": address, "SERVER_PORT": str(port)}
        self._server = await self.loop.create_server(lambda: Connection(self), sock=sock, backlog=BACKLOG)
        self.parking.start()
        self._sweep()

    def _sweep(self) -> None:
        self.connections.sweep()
        self.parking.sweep(self.connections.now)
        self._sweeps = self.loop.call_later(1.0, self._sweep)

    async def close(self, within: float) -> int:
        """Take no more connections, and answer what is under way. Returns how many answers were cut off after `within` seconds.

        Requests that have arrived only in part have GRACE seconds left; then they are refused.
        """
        if self._server:
            self._server.close()
        began, is_cut = time.monotonic(), False
        self.connections.stop()
        await self.parking.drain()
        while len(self.connections) and (elapsed := time.monotonic() - began) < within:
            if elapsed >= GRACE and not is_cut:
                is_cut = True
                self.connections.cut()
            if is_cut and not self.connections.answering():
                break
            await asyncio.sleep(LOOK)
        left = self.connections.answering()
        if not left and len(self.connections):
            await asyncio.sleep(READ_WITHIN)
        self.downloads.stop()
        for _ in range(TURNS):
            self.connections.abort()
            await asyncio.sleep(0)
        if self._sweeps:
            self._sweeps.cancel()
        return left
