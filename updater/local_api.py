"""The host's own HTTP interface: what this updater is and sees, for people and monitors on the same machine. A web page in
a browser on this machine gets none of it but /health and /version (updater.service.web_guard).

The standard library's server does: four short answers do not repay the memory of a framework on every host (docs/adr/0003).
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
MAX_POSTED = 64 << 10  # bytes of a body, which no route wants
Answer = tuple[int, str | dict[str, Any] | list[dict[str, Any]]]


class Route(NamedTuple):
    """is_public: also for web pages; is_local: only for who asks from this machine."""

    answer: Callable[[], Answer]
    is_public: bool = False
    is_local: bool = False
    methods: tuple[str, ...] = GET


class Asked(NamedTuple):
    """Who asks. peer: the address; the rest: headers, "" where they are not sent."""

    peer: str
    host: str = ""
    origin: str = ""
    fetch_site: str = ""


class Listening:
    """Listens where the configuration says, and answers from a thread of its own. Safe for threads."""

    def __init__(self, daemon: Daemon) -> None:
        self._handler = _handler(routes(daemon), lambda: {daemon.host.config.reported_hostname})
        self._changing = threading.Lock()
        self._where = ""
        self._server: _Server | None = None

    def follow(self, settings: config.Config) -> None:
        """From now on where these settings say, if anywhere. Raises Misconfigured, and then listens where it did before."""
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
            _end(before)  # it may be we who have this port, at another address of this machine
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
    """No new connections; those that are being answered are answered."""
    if server:
        server.shutdown()
        server.server_close()


def check(settings: config.Config, running: int) -> None:
    """Raises Misconfigured where nothing could listen there, once the updater that runs now (its process, or 0) is stopped."""
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
    """Path -> what answers it: (status, text or JSON value)."""

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
        # It is GET for the peers' `control`, and changes nothing but what the file says already.
        "/config/reload": Route(reload, is_local=True, methods=GET_OR_POST),
    }


def refusal(route: Route, asked: Asked, known: Collection[str]) -> str:
    """Why this route is not for who asks, or "". known: this host's names besides its own. The Host counts only where the
    peer is this machine: another machine may have any name for this one."""
    if route.is_public:
        return ""
    is_here = addresses.is_loopback(asked.peer)
    if route.is_local and not is_here:
        return "no privilege"
    why = page_problem(asked.origin, asked.fetch_site, asked.host)
    return why or (host_problem(asked.host, known) if is_here else "")


def agents(daemon: Daemon) -> list[dict[str, Any]]:
    """The last look at each agent: name, version, status, timestamp (Unix seconds)."""
    found = (seen.real_agent() for _, seen in sorted(daemon.seen.items()) if seen.current)
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
    """Of a body; None for one that is too long, or has no length that can be read."""
    length = int(text) if re.fullmatch("[0-9]{1,9}", text) else MAX_POSTED + 1
    return length if length <= MAX_POSTED else None


def _handler(table: dict[str, Route], known: Callable[[], Collection[str]]) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        server_version = f"ops-updater/{VERSION}"
        sys_version = ""
        timeout = 10  # seconds a silent client may hold a thread

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
            self.rfile.read(length)  # or its sender would not get to see the answer
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
            pass  # a monitor's polling is no news

    return Handler
