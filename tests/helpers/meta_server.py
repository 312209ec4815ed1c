"""A real meta for tests: `python -m meta.cli serve` on a free port, with its own database, stopped by its pid."""

import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

from lab.fleet import ENVIRONMENT, Served, until

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 20.0  # seconds before a test says that something does not happen


def is_alive(pid: int) -> bool:
    """Whether the process runs; a dead one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def meta(*arguments: str, directory: Path, given: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one command of meta to its end. given: what comes on stdin."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "meta.cli", *arguments],
        cwd=directory,
        env=ENVIRONMENT | environment,
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
    )


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class MetaServer(Served):
    """Use it in a `with`; `start` and `stop` may be called again in between.

    records: the file that manages them; None keeps them in its database.
    """

    def __init__(self, directory: Path, records: Path | None, *options: str):
        super().__init__(directory)
        self.environment["PYTHONWARNINGS"] = "error"
        self.database = directory / "var" / "meta.db"  # the default
        self._options = ["--listen", "127.0.0.1:0", *([] if records is None else ["--records", str(records)]), *options]

    def __enter__(self) -> Self:
        self.start()
        return self

    def close(self) -> None:
        self.stop(signal.SIGKILL)

    def child(self) -> int:
        """The pid of the process that serves, below the one that keeps it up."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return int(until("a process that serves", lambda: children.read_text().split())[0])

    def find(self) -> None:
        """Learn the URL again, after it was started again by what keeps it up."""
        until("it answers", self._answers, self.said().rindex("listens on"))

    def start(self, open_files: tuple[int, int] | None = None) -> None:
        """open_files: the soft and the hard limit, None as they are."""
        limited = () if open_files is None else ("prlimit", f"--nofile={open_files[0]}:{open_files[1]}")
        try:
            self.serve(*self._options, by=limited)
        except BaseException:
            self.close()
            raise

    def ask(self, method: str, path: str, body: bytes | str | Iterable[bytes] | None = None, **headers: str) -> Answer:
        """One request, its path sent as it is; a body in pieces goes without a length."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=PATIENCE)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body.encode() if isinstance(body, str) else body, named)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def beat(self, hostname: str, /, trial: bool = False, **agents: str) -> Any:
        """One heartbeat of a host with these agents at these versions, all on trial or none; returns the reply."""
        said = {"status": "started", "trial": trial}
        known = [said | {"name": name, "version": version} for name, version in agents.items()]
        answer = self.ask("POST", "/heartbeat", json.dumps({"hostname": hostname, "realAgents": known}))
        assert answer.status == 200, answer.text
        return answer.json
