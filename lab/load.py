"""A load of heartbeats: many simulated hosts over a few connections that are kept, in one process without threads.

Speaks just enough HTTP for that: a request is bytes made from a template, an answer is its status line and Content-Length. Each
connection has one request on its way, as hosts have; what falls due while all are busy waits, and its latency counts from when
it was due.
"""

import math
import random
import re
import select
import socket
import time
from dataclasses import dataclass, field
from typing import Self

AGENTS = ("falcon-agent", "deploy-agent", "naming-agent")
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)


def agents_of(version: str) -> list[dict[str, str]]:
    """The agents of every simulated host, without their tarball's place."""
    return [{"name": name, "version": version} for name in AGENTS]


@dataclass
class Plan:
    """hosts: how many; changing: the part of the beats that carries another version than the one before; rate: beats a second,
    0 = as many as go; connections: at once."""

    hosts: int
    changing: float = 0.01
    rate: float = 0.0
    connections: int = 32
    seed: int = 1


@dataclass
class Result:
    """latencies: seconds, unordered; failed: answers by status that was not 200;
    reconnects: connections that were refused or cut, and made again."""

    beats: int = 0
    latencies: list[float] = field(default_factory=list)
    failed: dict[int, int] = field(default_factory=dict)
    reconnects: int = 0

    def percentile(self, percent: float) -> float:
        """Seconds; 0 when nothing was answered."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else 0.0


class Load:
    """One load maker. host N beats as `host-000000N.example.com`; its version changes as the plan says."""

    def __init__(self, address: str, plan: Plan):
        host, _, port = address.rpartition(":")
        self._address = (host, int(port))
        self._plan = plan
        self._random = random.Random(plan.seed)
        self._changed: dict[int, int] = {}
        self._next = 0
        self._idle: list[socket.socket] = []
        self._busy: dict[int, tuple[socket.socket, float, int, bytes]] = {}
        self._poll = select.epoll()
        self.result = Result()

    def run(self, beats: int, until: float = math.inf) -> Result:
        """Send so many beats, or until the monotonic clock says so; wait for all answers."""
        started, sent = time.monotonic(), 0
        while sent < beats or self._busy:
            now = time.monotonic()
            if now >= until:
                beats = sent
            while sent < beats and self._due(started, sent) <= now and (sock := self._free()):
                self._send(sock, self._next, max(started, self._due(started, sent)))
                self._next = (self._next + 1) % self._plan.hosts
                sent += 1
            wait = max(0.0, self._due(started, sent) - time.monotonic()) if sent < beats and self._has_free() else 1.0
            for descriptor, _ in self._poll.poll(min(wait, 1.0)):
                self._receive(descriptor)
        return self.result

    def _due(self, started: float, number: int) -> float:
        return started + number / self._plan.rate if self._plan.rate else started

    def _has_free(self) -> bool:
        return bool(self._idle) or len(self._busy) < self._plan.connections

    def _free(self) -> socket.socket | None:
        if self._idle:
            return self._idle.pop()
        if len(self._busy) >= self._plan.connections:
            return None
        return self._connect()

    def _connect(self) -> socket.socket:
        """A server that is restarted lets its hosts wait, and so do we."""
        while True:
            try:
                sock = socket.create_connection(self._address, timeout=30)
            except OSError:
                self.result.reconnects += 1
                time.sleep(0.05)
                continue
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._poll.register(sock, select.EPOLLIN)
            return sock

    def _send(self, sock: socket.socket, number: int, due: float) -> None:
        request = self._request(number)
        self._busy[sock.fileno()] = (sock, due, number, b"")
        try:
            sock.sendall(request)
        except OSError:
            self._again(sock)

    def _request(self, number: int) -> bytes:
        if self._plan.changing and self._random.random() < self._plan.changing:
            self._changed[number] = self._changed.get(number, 0) + 1
        version, stamp = f"1.0.{self._changed.get(number, 0) % 5}", int(time.time())
        versions = zip(AGENTS, (version, "1.0.0", "1.0.0"), strict=True)
        agents = ",".join(
            f'{{"name":"{name}","version":"{version}","status":"started","timestamp":{stamp},"trial":false}}'
            for name, version in versions
        )
        body = f'{{"hostname":"host-{number:07d}.example.com","realAgents":[{agents}],"updaterVersion":"1.0.0"}}'
        return f"POST /heartbeat HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()

    def _receive(self, descriptor: int) -> None:
        busy = self._busy.get(descriptor)
        if busy is None:
            self._forget_idle(descriptor)
            return
        sock, due, number, before = busy
        try:
            data = before + sock.recv(65536)
        except OSError:
            data = before
        if len(data) == len(before):
            self._again(sock)
            return
        status = _complete(data)
        if status is None:
            self._busy[descriptor] = (sock, due, number, data)
            return
        del self._busy[descriptor]
        self._idle.append(sock)
        self.result.beats += 1
        self.result.latencies.append(time.monotonic() - due)
        if status != 200:
            self.result.failed[status] = self.result.failed.get(status, 0) + 1

    def _again(self, sock: socket.socket) -> None:
        """The connection ended before the answer: the host beats again on another one, as it would."""
        _, due, number, _ = self._busy.pop(sock.fileno())
        self._close(sock)
        self.result.reconnects += 1
        self._send(self._connect(), number, due)

    def _forget_idle(self, descriptor: int) -> None:
        for sock in self._idle:
            if sock.fileno() == descriptor:
                self._idle.remove(sock)
                self._close(sock)
                return

    def _close(self, sock: socket.socket) -> None:
        self._poll.unregister(sock)
        sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in [*self._idle, *(busy[0] for busy in self._busy.values())]:
            sock.close()
        self._poll.close()


def _complete(data: bytes) -> int | None:
    """The status of an answer that is there as a whole."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    length = _LENGTH.search(data, 0, end)
    if length and len(data) < end + 4 + int(length[1]):
        return None
    return int(data[9:12])
