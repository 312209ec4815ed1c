"""A meta and a tarball server in one, in the test's own process: says what it is told to, remembers what it was asked."""

import hashlib
import http.server
import json
import select
import socket
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from helpers.agents import members
from lab import agents


class Site:
    """desired: the entries of the next reply; reports: the heartbeats that came; gets: the paths that were fetched.

    notify: the longest wait of a park, 0 for none. parks: the paths of the parks that came; parked: how many stand now. A
    park is woken when its host does not know the newest reply, or, with `wakes`, always at once.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.files = directory
        self.desired: list[Any] = []
        self.reports: list[dict[str, Any]] = []
        self.gets: list[str] = []
        self.most = 1 << 20  # bytes of a report that it takes
        self.notify = 0
        self.wakes = False
        self.parks: list[str] = []
        self.parked = 0
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        # A daemon: from Python 3.12 on, a forked worker waits for other threads before its finalizers close this.
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"http://{self.address}"

    def __enter__(self) -> "Site":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def publish(self, name: str = "agent", version: str = "1", **control: Any) -> agents.Tarball:
        """Publish a version of an agent; `control` and `mode` as for `members`, more files by name."""
        return agents.publish(self.files, name, version, members(**control))

    def desire(self, *entries: dict[str, Any] | tuple[str, str]) -> None:
        """What every host shall have: (name, version) for short, or an entry's fields."""
        self.desired = [self.entry(*e) if isinstance(e, tuple) else e for e in entries]

    def entry(self, name: str = "agent", version: str = "1", **fields: Any) -> dict[str, Any]:
        return {"name": name, "version": version, "tarball": self.url, "md5": "", "cmd": "start"} | fields

    def outcomes(self) -> list[dict[str, Any]]:
        """All outcomes that were reported, in order."""
        return [outcome for report in self.reports for outcome in report.get("outcomes") or []]

    def reply(self) -> bytes:
        offer = {"notify": self.notify} if self.notify else {}
        return json.dumps({"errorMessage": "", "desiredAgents": self.desired} | offer).encode()

    def got(self, path: str) -> tuple[int, bytes, str]:
        """What a GET gets: status, body, content type."""
        self.gets.append(path)
        file = self.files / path.lstrip("/")
        if path == "/health":
            return 200, b"ok", "text/plain"
        if file.is_file():
            return 200, file.read_bytes(), "application/octet-stream"
        return 404, b"not found", "text/plain"

    def park(self, path: str, wait: float, connection: socket.socket) -> bool | None:
        """Whether there is news, at the end of a park; None if the host hung up."""
        self.parks.append(path)
        known, until = parse_qs(urlsplit(path).query)["known"][0], time.monotonic() + wait
        self.parked += 1
        try:
            while time.monotonic() < until:
                if self.wakes or known != hashlib.sha256(self.reply()).hexdigest()[:16]:
                    return True
                if select.select([connection], [], [], 0.02)[0]:
                    return None
        finally:
            self.parked -= 1
        return False


def _handler(site: Site) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if len(body) > site.most:
                self._answer(413, b"too large", "text/plain")
                return
            site.reports.append(json.loads(body))
            self._answer(200, site.reply(), "application/json; charset=UTF-8")

        def do_GET(self) -> None:
            if self.path.startswith("/notify?") and site.notify:
                self._park()
                return
            self._answer(*site.got(self.path))

        def _park(self) -> None:
            has_news = site.park(self.path, int(self.headers["Prefer"].removeprefix("wait=")), self.connection)
            if has_news is not None:
                self._answer(*((200, b'{"within": 0}') if has_news else (204, b"")), "application/json")

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
