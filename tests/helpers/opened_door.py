"""A door on a free port of loopback, with its loop in a thread, before an application and hot paths that note what they see."""

import asyncio
import gc
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, NamedTuple

from meta.door.door import Door, Limits
from meta.door.parking import Rules
from meta.door.protocol import Connection
from meta.heartbeat.notify import Park, parse
from meta.heartbeat.responses import TEXT, Answer
from meta.process.counts import Counts

HOT = "/heartbeat"
PARK = "/notify"
OLD, NEW = "0" * 16, "f" * 16  # what a host knows: a host that knows OLD is up to date
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.SelectorEventLoop}
with suppress(ImportError):
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop


class Seen(NamedTuple):
    """A request as it was seen."""

    method: str
    path: str
    body: bytes


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class OpenedDoor:
    """Use it in a `with`. `application` may be replaced; `seen` has what it and the hot path were asked, in that order."""

    def __init__(
        self,
        loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.SelectorEventLoop,
        parks: dict[str, Any] | None = None,
        **limits: Any,
    ):
        self.seen: list[Seen] = []
        self.environs: list[dict[str, Any]] = []
        self.refused: list[int] = []
        self.application: Callable[..., Iterable[bytes]] = self.echo
        self.counts = Counts()
        self.loop = loop()
        self.loop.set_exception_handler(lambda _loop, context: self.errors.append(context))
        self.errors: list[Any] = []
        wanted = Limits(**({"connections": 10_000, "of_one": 10_000, "rate": 0} | limits))
        paths = {HOT: self._hot, PARK: self._park}
        self.news: Callable[[Park], bool] = lambda park: park.known != OLD
        parks = Rules(
            **({"most": 10_000, "rate": 1000.0, "settle": 0.0, "now": time.time} | (parks or {})),
            has_news=self._has_news,
        )
        self.door = Door(
            self.loop, paths, lambda *asked: self.application(*asked), wanted, parks, self.counts, self.refused.append
        )
        self._thread = threading.Thread(target=self.loop.run_forever)

    def echo(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Read the body, and answer with how long it was."""
        body = environ["wsgi.input"].read()
        self.environs.append(environ)
        self.seen.append(Seen(environ["REQUEST_METHOD"], environ["PATH_INFO"], body))
        text = f"app {len(body)}".encode()
        start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else text]

    def _hot(self, environ: dict[str, Any], body: bytes) -> Answer:
        self.environs.append(environ)
        self.seen.append(Seen(environ["REQUEST_METHOD"], environ["PATH_INFO"], body))
        return Answer(200, TEXT, f"hot {len(body)}".encode())

    def _park(self, environ: dict[str, Any], _body: bytes) -> Park | Answer:
        self.seen.append(Seen(environ["REQUEST_METHOD"], environ["PATH_INFO"], b""))
        return parse(environ, 270)

    def _has_news(self, park: Park) -> bool:
        return self.news(park)

    def change(self, news: Callable[[Park], bool]) -> None:
        """Put other orders in force: `news` says for whom they are news."""
        self.news = news
        self.door.soon(self.door.parking.changed)

    def __enter__(self) -> "OpenedDoor":
        sock = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.address: tuple[str, int] = sock.getsockname()
        self._thread.start()
        self.run(self.door.listen(sock))
        return self

    def __exit__(self, *_: object) -> None:
        if not self.loop.is_closed():
            self.close(0)

    def run(self, coroutine: Any) -> Any:
        """Have the loop do this, and wait for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    def close(self, within: float = 8) -> int:
        """Close the door, and return how many answers were cut off."""
        left: int = self.run(self.door.close(within))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(30)
        self.loop.close()
        return left

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        return socket.create_connection(self.address, timeout=30, source_address=(source, 0))

    def later(self, seconds: float) -> None:
        """Have the time for everything that is open pass sooner by these seconds."""

        async def sweep() -> None:
            for some in (self.door.connections._all, self.door.connections._refused):
                for one in some:
                    one.deadline -= seconds
                    one.unread -= seconds
            self.door.connections.sweep()

        self.run(sweep())

    def ask(self, raw: bytes, pieces: int = 0) -> list[Response]:
        """Send this, whole or so many bytes at a time, and no more; return all answers."""
        with self.connect() as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with suppress(OSError):  # it was hung up on
                for at in range(0, len(raw), pieces or len(raw) or 1):
                    client.sendall(raw[at : at + (pieces or len(raw))])
                client.shutdown(socket.SHUT_WR)
            return answers(client)


def left_of(opened: OpenedDoor) -> list[Connection]:
    """Its connections that are still in memory."""
    return [one for one in gc.get_objects() if isinstance(one, Connection) and one._door is opened.door]


def received(client: socket.socket) -> bytes:
    """All that comes until the end."""
    found = []
    with suppress(ConnectionResetError):
        while more := client.recv(1 << 18):
            found.append(more)
    return b"".join(found)


def answers(client: socket.socket) -> list[Response]:
    """All responses that come until the end, those with status 100 left out."""
    return parsed(received(client))


def parsed(raw: bytes) -> list[Response]:
    found = []
    while raw:
        head, end, rest = raw.partition(b"\r\n\r\n")
        assert end, raw
        first, *lines = head.decode("latin-1").split("\r\n")
        match = re.fullmatch(r"HTTP/1\.1 ([1-5][0-9][0-9]) [A-Za-z -]+", first)
        assert match, first
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        size = int(headers.get("content-length", 0))
        if match[1] != "100":
            found.append(Response(int(match[1]), headers, rest[:size]))
        raw = rest[size:]
    return found
