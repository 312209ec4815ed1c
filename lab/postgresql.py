"""PostgreSQL servers of one's own on loopback, that may be stopped, copied to a standby, and failed over to it."""

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from lab.ports import free_port


class NoPostgresql(Exception):
    """Its programs are not on this machine."""


class Cluster:
    """Ended and removed by `with`. PostgreSQL refuses to run as root, so root runs it as the user postgres."""

    def __init__(self, standby_of: int = 0) -> None:
        """standby_of: the port at which it finds its primary, now and while it follows; 0: it is one of its own. Raises
        NoPostgresql."""
        self._bin = programs()
        self._directory = Path(tempfile.mkdtemp(prefix="ops-updater-postgresql-"))
        self._user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        if self._user:
            os.chown(self._directory, self._user.pw_uid, self._user.pw_gid)
        self.port = free_port()
        self._data = self._directory / "data"
        if standby_of:
            source = ("-h", "127.0.0.1", "-p", str(standby_of), "-U", "postgres")
            self._run("pg_basebackup", *source, "-D", str(self._data), "-R", "-X", "stream", "-c", "fast", "--no-sync")
        else:
            self._run("initdb", "-D", str(self._data), "-A", "trust", "-U", "postgres", "--no-sync")

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> Self:
        options = f"-c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories={self._directory}"
        log = str(self._directory / "log")
        self._run("pg_ctl", "-D", str(self._data), "-w", "-t", "30", "-l", log, "-o", options, "start")
        return self

    def stop(self) -> None:
        """At once, as a crash does."""
        self._run("pg_ctl", "-D", str(self._data), "-w", "-t", "30", "-m", "immediate", "stop", check=False)

    def promote(self) -> None:
        """It is a primary when this returns."""
        self._run("pg_ctl", "-D", str(self._data), "-w", "-t", "30", "promote")

    def _run(self, program: str, *arguments: str, check: bool = True) -> None:
        who = {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []} if self._user else {}
        command = [str(self._bin / program), *arguments]
        subprocess.run(  # type: ignore[call-overload]
            command,
            cwd=self._directory,
            stdout=subprocess.DEVNULL,
            stderr=None if check else subprocess.DEVNULL,
            timeout=60,
            check=check,
            **who,
        )

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._directory)


def programs() -> Path:
    """The directory of PostgreSQL's programs. Raises NoPostgresql."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    if program := shutil.which("initdb"):
        return Path(program).resolve().parent
    raise NoPostgresql("PostgreSQL's initdb is not there: apt-get install postgresql")
