"""The host's local HTTP interface: this updater's state, for people and monitors on the same machine.

Web pages in a browser on this machine get only /health and /version (updater.service.web_guard). The standard library's server
is used, since a few short responses do not justify the memory of a framework on every host (docs/adr/0003).
"""

import errno
import http.server
import json
import logging
import os
import re
import socket
import threading
from collections.abc import Callable, Collection, Mapping
from email.message import Message
from types import MappingProxyType
from typing import Any, NamedTuple

from updater.errors import Misconfigured
from updater.host import config
from updater.net import addresses
from updater.reconcile.daemon import Daemon
from updater.service import listeners
from updater.service.web_guard import host_problem, page_problem
from updater.wire.heartbeat import VERSION

log = logging.getLogger("updater")

GET, GET_OR_POST = ("GET",), ("GET", "POST")
MAX_POSTED = 64 << 10  # bytes of a request's body, which no route uses
Answer = tuple[int, str | dict[str, Any] | list[dict[str, Any]]]


class Route(NamedTuple):
    """One path of the interface, which is the key in `routes`."""

    answer: Callable[[], Answer]
    is_public: bool = False  # also for web pages
    is_local: bool = False  # only for clients on this machine
    methods: tuple[str, ...] = GET


class Asked(NamedTuple):
    """The client of a request: its address, and headers, which are "" if they are missing."""

    peer: str  # address
    host: str = ""
    origin: str = ""
    fetch_site: str = ""


class Listening:
    """Serves at the configured address, in a thread of its own. Safe for threads."""

    def __init__(self, daemon: Daemon) -> None:
        self._handler = _handler(routes(daemon), lambda: {daemon.host.config.reported_hostname})
        self._changing = threading.Lock()
        self._where = ""
        self._server: _Server | None = None

    def follow(self, settings: config.Config) -> None:
        """Move to the address in these settings, or stop. Raises Misconfigured; then the old address stays in use."""
        wanted = settings.http.listen if settings.http.enabled else ""
        with self._changing:
            if wanted == self._where:
                return
            try:
                self._go_to(wanted)
            except OSError as e:
                raise Misconfigured(f"http.listen: cannot listen on {wanted}: {e.strerror}") from e
            self._where = wanted

    def close(self) -> None:
        with self._changing:
            _end(self._server)
            self._where, self._server = "", None

    def _go_to(self, wanted: str) -> None:
        before = self._server
        try:
            self._server = self._started(wanted)
        except OSError:
            if before is None or _address(wanted)[1] != before.address[1]:
                raise
            _end(before)  # this process may use the port itself, at another address
            try:
                self._server = self._started(wanted)
            except OSError:
                where, self._where, self._server = (
                    self._where,
                    "",
                    None,
                )  # so that a reload tries again if this fails, too
                self._server = self._started(where)
                self._where = where
                raise
        else:
            _end(before)

    def _started(self, listen: str) -> "_Server | None":
        if not listen:
            return None
        server = _Server(_address(listen), self._handler)
        threading.Thread(target=server.serve_forever, name="local-http", daemon=True).start()
        log.info("local HTTP on %s", addresses.shown(*server.address))
        return server


def _end(server: "_Server | None") -> None:
    """Close the server: no new connections, while requests in progress are completed."""
    if server:
        server.shutdown()
        server.server_close()


def check(settings: config.Config, running: int) -> None:
    """Raises Misconfigured if the configured address cannot be used.

    running: pid of the updater that runs now, 0 for none; the address may be in use by that.
    """
    if not settings.http.enabled:
        return
    address = _address(settings.http.listen)
    with socket.socket(addresses.family(address[0]), socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(address)
        except OSError as e:
            if e.errno != errno.EADDRINUSE or not running or listeners.others_listen(*address, running):
                raise Misconfigured(f"http.listen: cannot listen on {settings.http.listen}: {e.strerror}") from e


def routes(daemon: Daemon) -> dict[str, Route]:
    """The routes by path."""

    def reload() -> Answer:
        try:
            return 200, {"msg": "success", "data": config.as_json(daemon.reload())}
        except Misconfigured as e:
            return 200, {"msg": str(e)}

    return {
        "/health": Route(lambda: (200, "ok"), is_public=True),
        "/version": Route(lambda: (200, VERSION), is_public=True),
        "/workdir": Route(lambda: (200, {"msg": "success", "data": os.fspath(daemon.host.layout.root)})),
        "/agents": Route(lambda: (200, agents(daemon))),
        # Also GET, as the Go updater's `control` sends it.
        "/config/reload": Route(reload, is_local=True, methods=GET_OR_POST),
    }


def refusal(route: Route, asked: Asked, known: Collection[str]) -> str:
    """Why this client may not use this route, or "". known: more names of this host.

    The Host header is checked only for clients on this machine, since another machine may use any name for this one.
    """
    if route.is_public:
        return ""
    is_here = addresses.is_loopback(asked.peer)
    if route.is_local and not is_here:
        return "no privilege"
    why = page_problem(asked.origin, asked.fetch_site, asked.host)
    return why or (host_problem(asked.host, known) if is_here else "")


def agents(daemon: Daemon) -> list[dict[str, Any]]:
    """The last look at each agent: name, version, status, timestamp (Unix seconds)."""
    found = (one.real_agent() for _, one in sorted(daemon.observed.items()) if one.current)
    return [{"name": a.name, "version": a.version, "status": a.status, "timestamp": a.timestamp} for a in found]


def _address(listen: str) -> tuple[str, int]:
    host, port = addresses.parse_listen(listen)
    return host or addresses.every_interface(), port


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[http.server.BaseHTTPRequestHandler]) -> None:
        self.address_family = addresses.family(address[0])
        super().__init__(address, handler)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self.server_address[:2]
        return str(host), port


def _asked(peer: str, headers: Message) -> Asked:
    return Asked(peer, *(", ".join(headers.get_all(name, [])) for name in ("Host", "Origin", "Sec-Fetch-Site")))


def _length(text: str) -> int | None:
    """The length of a body; None if it is too long or cannot be parsed."""
    length = int(text) if re.fullmatch("[0-9]{1,9}", text) else MAX_POSTED + 1
    return length if length <= MAX_POSTED else None


def _handler(table: dict[str, Route], known: Callable[[], Collection[str]]) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        server_version = f"ops-updater/{VERSION}"
        sys_version = ""
        timeout = 10  # seconds for which a silent client may occupy a thread

        def do_GET(self) -> None:
            route = table.get(self.path.partition("?")[0])
            if not route:
                self._send(404, "not found")
            elif self.command not in route.methods:
                self._send(405, "method not allowed", {"Allow": ", ".join(route.methods)})
            elif why := refusal(route, _asked(addresses.unmapped(str(self.client_address[0])), self.headers), known()):
                self._send(403, why)
            else:
                self._send(*route.answer())

        def do_POST(self) -> None:
            length = _length(self.headers.get("Content-Length", "0"))
            if length is None:
                self._send(413, "request entity too large")
                return
            self.rfile.read(length)  # otherwise the client could not read the response
            self.do_GET()

        def _send(self, status: int, body: Any, more: Mapping[str, str] = MappingProxyType({})) -> None:
            text = isinstance(body, str)
            data = (str(body) if text else json.dumps(body)).encode("utf-8", "replace")
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; charset=utf-8" if text else "application/json; charset=UTF-8")
            self.send_header("Content-Length", str(len(data)))
            for name, value in more.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass  # requests are not logged: monitors poll often

    return Handler
