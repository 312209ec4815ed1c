"""The bridge's own HTTP port, with /health, /ready and /metrics."""

import logging
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from meta.errors import Misconfigured
from updater.net import addresses

SILENT = 5.0  # seconds after which a silent client is disconnected, to free its thread
Page = Callable[[], tuple[int, str]]  # returns the status and the text
log = logging.getLogger(__name__)


class Watching:
    """Serves these pages, by path, until `stop`."""

    def __init__(self, host: str, port: int, pages: Mapping[str, Page]):
        """Start to listen. Raises Misconfigured if that is not possible there."""
        host = host or addresses.every_interface()
        server = type(
            "Server", (ThreadingHTTPServer,), {"address_family": addresses.family(host), "daemon_threads": True}
        )
        try:
            self._server = server((host, port), _handler(dict(pages)))
        except OSError as e:
            raise Misconfigured(f"cannot listen on {addresses.shown(host, port)}: {e.strerror or e}") from e
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="http", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(2)


def _handler(pages: dict[str, Page]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = SILENT

        def do_GET(self) -> None:
            page = pages.get(self.path.partition("?")[0])
            if page and self.command == "OPTIONS":
                self.send_response(204)
                self.send_header("Allow", "GET, HEAD, OPTIONS")
                self.end_headers()
                return
            status, text = page() if page else (404, "not found\n")
            data = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_HEAD = do_OPTIONS = do_GET

        def log_message(self, text: str, *arguments: object) -> None:
            log.debug(text, *arguments)

    return Handler
