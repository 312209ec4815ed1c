"""An elves-agent and the bridge, for tests: beats over a socket, a server in the test's process, `meta elves` as it runs."""

import asyncio
import contextlib
import http.client
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from helpers.meta_server import PATIENCE
from lab.fleet import Process, until
from meta.bridges.elves.counters import Numbers
from meta.bridges.elves.thrift.codec import parse_answer, render_call
from meta.bridges.elves.thrift.framing import Messages
from meta.bridges.elves.thrift.server import ThriftServer
from meta.bridges.elves.translator import Info

RECORDED = bytes.fromhex(
    "80010001000000106865617274626561745061636b616765000000010c00010b0001000000064358303030310b0002000000093132372e302e302e"
    "310b000300000005302e342e330b0004000000137b2274657374417070223a22312e302e31227d0000"
)  # what the real elves-agent sent
AGENT = Info("CX0001", "127.0.0.1", "0.4.3", '{"testApp":"1.0.1"}')


def agent(number: int, apps: str = '{"a":"1.0.0"}') -> Info:
    return Info(f"CX{number:05d}", f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", "0.4.3", apps)


def receive(connection: socket.socket) -> bytes:
    """One whole message; b"" when the other side closed first."""
    messages = Messages()
    while data := connection.recv(65536):
        for message in messages.feed(data):
            return message
    return b""


def beat(port: int, info: Info = AGENT, within: float = PATIENCE) -> str:
    """One beat, as the real agent does it: a connection of its own. Raises what the answer raises."""
    with socket.create_connection(("127.0.0.1", port), within) as connection:
        connection.sendall(render_call(info, 1))
        return parse_answer(receive(connection))


@contextlib.contextmanager
def serving(answer: Callable[[Info, str, float], str], **limits: Any) -> Iterator[tuple[int, ThriftServer]]:
    """A Thrift server with this answer, in a thread: (port, server)."""
    server, begun, address = ThriftServer(answer, Numbers(), **limits), threading.Event(), []
    loop = asyncio.new_event_loop()

    def work() -> None:
        address.append(loop.run_until_complete(server.start("127.0.0.1", 0)))
        begun.set()
        loop.run_forever()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert begun.wait(PATIENCE)
        yield address[0][1], server
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(0.1), loop).result(PATIENCE)
        until("the connections end", lambda: not server.connections)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
        loop.close()


class Bridge(Process):
    """`meta elves` as a process. Use it in a `with`; `start` and `stop` may be called again in between."""

    def __init__(self, directory: Path, properties: dict[str, Any], *options: str):
        directory.mkdir(parents=True, exist_ok=True)
        super().__init__(directory / "elves.log")
        self._directory = directory
        known = {"thrift.heartbeat.ip": "127.0.0.1", "thrift.heartbeat.port": 0} | properties
        (directory / "conf.properties").write_text("".join(f"{key} = {value}\n" for key, value in known.items()))
        self._options = ["-c", "conf.properties", "--http", "127.0.0.1:0", *options]
        self.environment["PYTHONWARNINGS"] = "error"
        self.port = self.http_port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def close(self) -> None:
        self.stop(signal.SIGKILL)

    def start(self) -> None:
        before = len(self.said())
        self._spawn(sys.executable, "-m", "meta.cli", "elves", *self._options, cwd=self._directory)
        try:
            found = until("meta elves listens", lambda: self._address(before))
        except BaseException:
            if self.running:  # else the test may ask how it ended
                self.stop(signal.SIGKILL)
            raise
        self.port, self.http_port = int(found[1]), int(found[2])

    def _address(self, start: int) -> re.Match[str] | None:
        log = self.said()[start:]
        assert self.running, f"meta elves ended:\n{log}"
        return re.search(r"listens for elves-agents on \S+:(\d+), .*http://\S+:(\d+)", log)

    def beat(self, info: Info = AGENT) -> str:
        return beat(self.port, info)

    def get(self, path: str, method: str = "GET") -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=PATIENCE)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def is_ready(self) -> bool:
        return self.get("/ready")[0] == 200
