"""meta and updaters as real processes on loopback, each in its own directory, none left behind."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import requests

from lab.ports import free_port
from updater.kernel import processes

T = TypeVar("T")

# Everything here is on loopback, where a proxy of the user's has no part; nor have settings that are meant for another meta.
_INHERITED = {name: value for name, value in os.environ.items() if not name.startswith("META_")}
ENVIRONMENT = _INHERITED | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


class Late(Exception):
    """Something that should have become true did not, by its deadline."""


def until(what: str, probe: Callable[..., T], *arguments: object, within: float = 20) -> T:
    """Ask until the answer is true, and return it; raise Late after `within` seconds."""
    deadline = time.monotonic() + within
    while not (answer := probe(*arguments)):
        if time.monotonic() > deadline:
            raise Late(f"{what}: not within {within:g} s")
        time.sleep(0.02)
    return answer


def end_all_of(directory: Path) -> int:
    """End whatever runs below a directory; returns how many there were."""
    count = 0
    while found := {one.identity for one in processes.Table().below(directory)}:
        count += processes.end(found)
        if processes.alive(found):
            break
    return count


def get(url: str, token: str = "") -> requests.Response:
    """GET, without a proxy."""
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url, timeout=5, headers={"Authorization": f"Bearer {token}"} if token else {})


class Process:
    """A process with a log file, ended by `close`."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.environment: dict[str, str] = {}  # more of it, for what is started from now on
        self._process: subprocess.Popen[bytes] | None = None

    def _spawn(self, *command: str, cwd: Path) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=ENVIRONMENT | self.environment,
                start_new_session=True,
            )

    def said(self) -> str:
        """Return all of its log, of former runs too."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self, sig: int = signal.SIGTERM) -> int:
        """Send the signal and wait; returns the exit code."""
        if self._process is None:
            return 0
        if self.running:
            self._process.send_signal(sig)
        try:
            code = self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._process = None
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.stop()


class Served(Process):
    """`meta serve` in a directory. url: where it listens, as its log says."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        super().__init__(directory / "meta.log")
        self.directory = directory
        self.url = ""

    def serve(self, *options: str, by: Sequence[str] = (), wait: Callable[..., object] = until) -> None:
        """Start it and wait until it answers. by: the command that is to run it; wait: as `until`."""
        former = len(self.said())
        self._spawn(*by, sys.executable, "-m", "meta.cli", "serve", *options, cwd=self.directory)
        wait("meta answers", partial(self._answers, former), within=60)

    def _answers(self, former: int) -> bool:
        said = self.said()[former:]
        if not self.running:
            raise Late(f"meta ended at its start:\n{said}")
        if found := re.search(r"listens on (http://\S+),", said):
            self.url = re.sub(r"//(\[::\]|0\.0\.0\.0):", "//127.0.0.1:", found[1])
            with contextlib.suppress(requests.RequestException):
                return get(f"{self.url}/health").text == "ok"
        return False


class Meta(Served):
    """A meta on a free port, with an admin who works with the command `meta`. `tarballs` is the directory it serves.

    The records live in its database; or, if the file `records` is there when it starts, in that file. database: an URL, for
    metas that share one.
    """

    def __init__(self, directory: Path, database: str = "") -> None:
        super().__init__(directory)
        self.address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{self.address}"
        self.database = database or f"sqlite:///{directory / 'meta.db'}"
        self.records = directory / "records.yaml"
        self.token = directory / "token"
        self.tarballs = directory / "tarballs"
        self.tarballs.mkdir(exist_ok=True)
        self._in_file = False

    def start(self, *options: str, wait: Callable[..., object] = until) -> Self:
        """options: more of them for `meta serve`; wait: as `until`, and may raise what ends the wait sooner."""
        if not self.token.exists():
            made = self.run("token", "new", "lab", "--role", "admin", "--database", self.database)
            self.token.touch(mode=0o600)
            self.token.write_text(made.stdout)
        settings = ["--listen", self.address, "--database", self.database, "--tarballs", str(self.tarballs)]
        self._in_file = self.records.exists()
        if self._in_file:
            settings += ["--records", str(self.records)]
        self.serve(*settings, *options, wait=wait)
        return self

    def run(self, *command: str, expect: int = 0, given: str = "") -> subprocess.CompletedProcess[str]:
        """Run `meta COMMAND...` as its admin; raise Late when it does not exit with `expect`."""
        done = subprocess.run(
            [sys.executable, "-m", "meta.cli", *command],
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=self.directory,
            env=ENVIRONMENT | {"META_URL": self.url, "META_TOKEN_FILE": str(self.token)},
        )
        if done.returncode != expect:
            raise Late(f"meta {' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def ask(self, path: str) -> Any:
        """GET of the REST API as its admin. A look that is repeated until something comes true costs no process so."""
        answer = get(f"{self.url}/api/v1/{path}", self.token.read_text().strip())
        answer.raise_for_status()
        return answer.json()

    def kill(self) -> None:
        """End it at once, with all that it has started."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def edit(self, records: str) -> None:
        """Put these records in force, all of them: through the file where it manages them, else with `meta apply`."""
        self.records.write_text(records)
        if self._in_file:
            self.run("reload", "--url", f"http://{self.address}", "--yes")  # only on its own machine
        else:
            self.run("apply", str(self.records), "--yes")

    def status(self, agent: str) -> dict[str, dict[str, Any] | None]:
        """host -> what it last reported of an agent."""
        answer: dict[str, dict[str, Any] | None] = get(f"{self.url}/status/json/{agent}").json()
        return answer


class Host(Process):
    """One updater with a root of its own, under `directory`."""

    def __init__(self, directory: Path, server: str, **settings: Any) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        super().__init__(directory / "updater.log")
        self.name = settings.get("hostname") or directory.name
        self.root = directory
        self.api = f"http://127.0.0.1:{free_port()}"
        self.config = directory / "cfg.json"
        base: dict[str, Any] = {"server": server, "interval": 1, "hostname": self.name, "probe": 0.2}
        base["http"] = {"enabled": True, "listen": self.api.removeprefix("http://")}
        self.config.write_text(json.dumps(base | settings))

    def start(self) -> Self:
        self._spawn(sys.executable, "-m", "updater.cli", "run", "-c", str(self.config), cwd=self.root)
        return self

    def run(self, command: str, *more: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run one of the updater's other commands to its end."""
        return subprocess.run(
            [sys.executable, "-m", "updater.cli", command, "-c", str(self.config), *more],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            cwd=self.root,
            env=ENVIRONMENT | self.environment,
        )

    def current(self, agent: str) -> str:
        """The version in an agent's `.version`, "" when there is none."""
        with contextlib.suppress(FileNotFoundError):
            return (self.root / agent / ".version").read_text().strip()
        return ""

    def control(self, agent: str, verb: str) -> str:
        """What `./control VERB` of the current version prints."""
        directory = self.root / agent / self.current(agent)
        done = subprocess.run(
            ["./control", verb], cwd=directory, capture_output=True, text=True, timeout=20, check=False
        )
        return done.stdout.strip()

    def close(self) -> None:
        """Stop the updater, and the agents it started."""
        self.stop()
        end_all_of(self.root)
