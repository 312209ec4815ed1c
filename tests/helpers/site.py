"""A meta and a tarball server in one, in the test's own process: says what it is told to, remembers what it was asked."""

import http.server
import json
import threading
from pathlib import Path
from typing import Any

from helpers.agents import members
from lab import agents


class Site:
    """desired: the entries of the next reply; reports: the heartbeats that came; gets: the paths that were fetched."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.files = directory
        self.desired: list[Any] = []
        self.reports: list[dict[str, Any]] = []
        self.gets: list[str] = []
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
        return json.dumps({"errorMessage": "", "desiredAgents": self.desired}).encode()


def _handler(site: Site) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            site.reports.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._answer(200, site.reply(), "application/json; charset=UTF-8")

        def do_GET(self) -> None:
            site.gets.append(self.path)
            file = site.files / self.path.lstrip("/")
            if self.path == "/health":
                self._answer(200, b"ok", "text/plain")
            elif file.is_file():
                self._answer(200, file.read_bytes(), "application/octet-stream")
            else:
                self._answer(404, b"not found", "text/plain")

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
