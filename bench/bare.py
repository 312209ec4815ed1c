"""A bare protocol on an event loop, for bench.heartbeat: it decodes a report and answers a constant, and nothing else."""

import asyncio
import sys

import msgspec
from httptools import HttpRequestParser

from meta.process.loop_watch import new_loop
from updater.wire.heartbeat import Desired, Report, render_reply

_decoder = msgspec.json.Decoder(Report)
_NAMES = ("falcon-agent", "deploy-agent", "naming-agent")
_REPLY = render_reply([Desired(name, "1.0.0", "http://127.0.0.1:2000/tarball", "", "start") for name in _NAMES])
_KEPT = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(_REPLY)}\r\n\r\n".encode() + _REPLY
_CLOSED = _KEPT.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)


class Bare(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._parser: HttpRequestParser | None = HttpRequestParser(self)
        self._body = b""

    def data_received(self, data: bytes) -> None:
        if self._parser is not None:
            self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        if self._body:
            _decoder.decode(self._body)
        self._body = b""
        keeps = self._parser is not None and self._parser.should_keep_alive()
        self._transport.write(_KEPT if keeps else _CLOSED)  # type: ignore[attr-defined]
        if not keeps:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._parser = None


if __name__ == "__main__":
    loop = new_loop()
    loop.run_until_complete(loop.create_server(Bare, "127.0.0.1", int(sys.argv[1]), backlog=4096))
    loop.run_forever()
