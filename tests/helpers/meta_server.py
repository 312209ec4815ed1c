"""A real meta for tests: `python -m meta.cli serve` on a free port, with its own database, stopped by its pid."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 20.0  # seconds before a test says that something does not happen


def until(condition: Callable[[], Any], what: str) -> Any:
    """The first true value of the condition; fails the test when there is none in time."""
    deadline = time.monotonic() + PATIENCE
    while True:
        if value := condition():
            return value
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.01)


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
        env=_environment() | environment,
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
    )


def _environment() -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("META_")}
    return inherited | {"PYTHONPATH": str(REPOSITORY)}


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


class MetaServer:
    """Use it in a `with`; `start` and `stop` may be called again in between. The log of all runs is in `log()`."""

    def __init__(self, directory: Path, records: Path, *options: str):
        self._directory = directory
        self.database = directory / "var" / "meta.db"  # the default
        self._command = [sys.executable, "-W", "error", "-m", "meta.cli", "serve", "--records", str(records)]
        self._command += ["--listen", "127.0.0.1:0", *options]
        self._log = directory / "meta.log"
        self._main: subprocess.Popen[bytes] | None = None
        self._workers: set[int] = set()
        self.url = ""

    def __enter__(self) -> "MetaServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._main:
            self.stop(signal.SIGKILL)
        for pid in filter(is_alive, self._workers):
            os.kill(pid, signal.SIGKILL)
        until(lambda: not any(map(is_alive, self._workers)), "the workers end")

    @property
    def pid(self) -> int:
        assert self._main
        return self._main.pid

    def worker(self) -> int:
        """The pid of the one worker there is now."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        pid = until(lambda: [int(child) for child in children.read_text().split()], "a worker")[0]
        self._workers.add(pid)
        return pid

    def start(self, open_files: tuple[int, int] | None = None) -> None:
        """open_files: the soft and the hard limit, None as they are."""
        before = len(self.log())
        limit = [] if open_files is None else ["prlimit", f"--nofile={open_files[0]}:{open_files[1]}"]
        with self._log.open("ab") as log:
            self._main = subprocess.Popen([*limit, *self._command], cwd=self._directory, env=_environment(), stderr=log)
        try:
            self.url = until(lambda: self._address(before), "meta listens")
            assert self.ask("GET", "/health").text == "ok"
            self.worker()
        except BaseException:
            self.stop(signal.SIGKILL)
            raise

    def _address(self, start: int) -> str:
        log = self.log()[start:]
        assert self.pid and self._main and self._main.poll() is None, f"meta ended:\n{log}"
        found = re.search(r"listens on (http://\S+),", log)
        return re.sub(r"//(\[::\]|0\.0\.0\.0):", "//127.0.0.1:", found[1]) if found else ""

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal to the main process; returns its exit code."""
        assert self._main
        main, self._main = self._main, None
        if main.poll() is None:
            main.send_signal(how)
        return main.wait(PATIENCE)

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

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
