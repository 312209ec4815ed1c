"""The host's own HTTP interface: what this updater is and sees, for people and monitors on the same machine. GET only.

The standard library's server does: four short answers do not repay the memory of a framework on every host (docs/adr/0003).
"""

import http.server
import json
import logging
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

from updater import config
from updater.daemon import Daemon
from updater.errors import Misconfigured
from updater.wire import VERSION

log = logging.getLogger("updater")

_LOOPBACK = ("127.", "::1", "::ffff:127.")
Answer = tuple[int, str | dict[str, Any] | list[dict[str, Any]]]


def serve(daemon: Daemon) -> http.server.ThreadingHTTPServer:
    """Listen and answer from a thread of its own; `shutdown` and `server_close` end it. Raises Misconfigured."""
    address = config.address(daemon.host.config.http.listen)
    try:
        server = _Server(address, _handler(routes(daemon)))
    except OSError as e:
        raise Misconfigured(f"http.listen: cannot listen on {daemon.host.config.http.listen}: {e.strerror}") from e
    threading.Thread(target=server.serve_forever, name="local-http", daemon=True).start()
    log.info("local HTTP on %s:%d", *server.server_address[:2])
    return server


def routes(daemon: Daemon) -> dict[str, Callable[[str], Answer]]:
    """Path -> what answers it, given the client's address: (status, text or JSON value)."""

    def reload(peer: str) -> Answer:
        if not peer.startswith(_LOOPBACK):
            return 403, "no privilege"
        try:
            return 200, {"msg": "success", "data": config.as_json(daemon.reload())}
        except Misconfigured as e:
            return 200, {"msg": str(e)}

    return {
        "/health": lambda _: (200, "ok"),
        "/version": lambda _: (200, VERSION),
        "/workdir": lambda _: (200, {"msg": "success", "data": os.fspath(daemon.host.layout.root)}),
        "/agents": lambda _: (200, agents(daemon)),
        "/config/reload": reload,
    }


def agents(daemon: Daemon) -> list[dict[str, Any]]:
    """The last look at each agent: name, version, status, timestamp (Unix seconds)."""
    found = (seen.real_agent() for _, seen in sorted(daemon.seen.items()) if seen.current)
    return [{"name": a.name, "version": a.version, "status": a.status, "timestamp": a.timestamp} for a in found]


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[http.server.BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)


def _handler(table: dict[str, Callable[[str], Answer]]) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        server_version = f"ops-updater/{VERSION}"
        sys_version = ""
        timeout = 10  # seconds a silent client may hold a thread

        def do_GET(self) -> None:
            route = table.get(self.path.partition("?")[0])
            status, body = route(str(self.client_address[0])) if route else (404, "not found")
            text = isinstance(body, str)
            data = (str(body) if text else json.dumps(body)).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; charset=utf-8" if text else "application/json; charset=UTF-8")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass  # a monitor's polling is no news

    return Handler
