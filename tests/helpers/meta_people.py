"""People at the command line of a real meta: each with a home of their own, and in it a token."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from helpers.meta_server import PATIENCE, REPOSITORY, MetaServer, meta
from lab.fleet import until

WIDE = {"COLUMNS": "200"}


class Own(MetaServer):
    """Its records live in its database."""

    def __init__(self, directory: Path, *options: str):
        super().__init__(directory, None, *options)


class Person:
    """Somebody with a home, and in it a token."""

    def __init__(self, server: MetaServer, home: Path, token: str = ""):
        self.home, self._server = home, server
        file = home / ".config/meta/token"
        file.parent.mkdir(parents=True)
        if token:
            file.touch(0o600)
            file.write_text(token)

    def __call__(self, *words: str, code: int = 0) -> str:
        """Run a command that ends with this code; returns what it says: stdout when it goes well, else stderr."""
        done = self.run(*words)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout if code == 0 else done.stderr

    def run(self, *words: str, given: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """given: what comes on stdin."""
        mine = {"HOME": str(self.home), "META_URL": self._server.url}
        return meta(*words, directory=self.home, given=given, **mine, **WIDE, **environment)

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "-o", "json"))

    def terminal(self, *words: str, **environment: str) -> "Terminal":
        """The command on a terminal of its own, to talk with."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("META_")}
        mine = {"HOME": str(self.home), "META_URL": self._server.url, "TERM": "xterm", "PYTHONPATH": str(REPOSITORY)}
        return Terminal([sys.executable, "-m", "meta.cli", *words], inherited | mine | WIDE | environment, self.home)


def first_admin(server: MetaServer, home: Path) -> Person:
    """Made as the help says: in a shell, before there is any token."""
    boss = Person(server, home)
    command = 'umask 077; "$PYTHON" -m meta.cli token new boss --role admin --database "$DB" > ~/.config/meta/token'
    environment = {"PYTHON": sys.executable, "DB": f"sqlite:///{server.database}", "HOME": str(home)}
    environment["PYTHONPATH"] = str(REPOSITORY)
    subprocess.run(["sh", "-c", command], env=os.environ | environment, check=True, capture_output=True, timeout=60)
    file = home / ".config/meta/token"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text().startswith("ou_o_")
    until("meta knows the new token", lambda: boss.run("whoami").stdout == "boss: admin\n")
    return boss


class Terminal:
    """A process on a pseudo-terminal. Use it in a `with`; `seen` is all that it wrote so far."""

    def __init__(self, command: list[str], environment: dict[str, str], cwd: Path):
        self.seen = ""
        self._ours, theirs = pty.openpty()
        self._process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=cwd, env=environment, start_new_session=True
        )
        os.close(theirs)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(PATIENCE)
        os.close(self._ours)

    def expect(self, text: str) -> str:
        """Read until this was written; returns all that was."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.seen:
            assert time.monotonic() < deadline and self._read(), f"{text!r} did not come:\n{self.seen}"
        return self.seen

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def interrupt(self) -> None:
        """What Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    def end(self) -> int:
        """Read to the end; returns the exit code."""
        while self._read():
            pass
        return self._process.wait(PATIENCE)

    def _read(self) -> bool:
        """Some more; False at the end."""
        ready, _, _ = select.select([self._ours], [], [], PATIENCE)
        try:
            data = os.read(self._ours, 65536) if ready else b""
        except OSError:  # the other side is closed
            data = b""
        self.seen += data.decode("utf-8", "replace")
        return bool(data)
