"""Three metas on a PostgreSQL of their own, each behind a line of its own, with a standby that follows behind another line."""

import contextlib
import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from lab.fleet import Meta, until
from lab.line import Line
from lab.partitions.history import Asked
from lab.postgresql import Cluster
from meta.store import Store

METAS = 3
TIMEOUT = 45.0  # seconds for an answer: a silent server is given up after 15, a lost commit looked for 5 more
HOST = "127.0.0.1"


class Answer(NamedTuple):
    """asked.status 0: there was none."""

    asked: Asked
    body: Any = None
    etag: str = ""


class Site:
    """Use it in a `with`. clock: seconds since it began."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="ops-updater-partitions-")))
        self.primary = self._stack.enter_context(Cluster())
        self.lines = [self._line() for _ in range(METAS)]
        self.metas = [Meta(self.directory / f"meta{number}", self.url(number)) for number in range(METAS)]
        self._began = time.monotonic()

    def __enter__(self) -> "Site":
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        self.follow()
        for number, meta in enumerate(self.metas):
            self._stack.enter_context(meta)
            self.metas[number].token = self.metas[0].token
            self.start(number)

    def __exit__(self, *_: object) -> None:
        for number in range(METAS):
            self.signal(number, signal.SIGCONT)
        for line in self.lines:
            line.heal()
            line.cut()
        self._stack.close()

    def clock(self) -> float:
        return time.monotonic() - self._began

    def _line(self) -> Line:
        return self._stack.enter_context(Line(HOST, self.primary.port).running())

    def url(self, number: int) -> str:
        return f"postgresql://postgres@{HOST}:{self.lines[number].port}/postgres?connect_timeout=2"

    # --- the database ---

    def follow(self) -> None:
        """Make a standby of the primary, which hears of it over a line."""
        self.replication = self._line()
        self.standby = self._stack.enter_context(Cluster(standby_of=self.replication.port))

    def position(self) -> str:
        """How far the database is, as PostgreSQL counts its log."""
        return str(self._asked("SELECT pg_current_wal_flush_lsn()")[0])

    def is_followed(self, position: str) -> bool:
        """Whether the standby has everything up to there."""
        query = f"SELECT bool_or(replay_lsn >= '{position}') FROM pg_stat_replication WHERE state = 'streaming'"
        return self._asked(query)[0] is True

    def _asked(self, query: str) -> tuple[Any, ...]:
        with contextlib.closing(psycopg.connect(self.primary.url, autocommit=True)) as connection:
            return connection.execute(query.encode()).fetchone() or (None,)

    def fail_over(self) -> None:
        """The primary dies, and the standby takes over with what it has heard."""
        self.primary.stop()
        self.replication.cut()
        self.standby.promote()
        self.primary = self.standby
        for line in self.lines:
            line.target = (HOST, self.primary.port)
            line.cut()

    @contextlib.contextmanager
    def store(self) -> Iterator[Store]:
        """The database itself, past all lines."""
        with contextlib.closing(Store(self.primary.url)) as store:
            yield store

    # --- the metas ---

    def start(self, number: int) -> None:
        self.metas[number].start("--anonymous-hosts", "--log-level", "info")

    def signal(self, number: int, what: signal.Signals) -> None:
        if pid := self.metas[number].pid:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, what)

    def readings(self, number: int) -> int:
        """How often this meta has read everything again, by its log."""
        return self.metas[number].log.read_text().count("the database was read again")

    def is_ready(self, number: int) -> bool:
        return self.ask(number, "GET", "/ready", "", 250).asked.status == 200

    def wait_until_ready(self, within: float) -> None:
        for number in range(METAS):
            until(f"meta {number} is ready", self.is_ready, number, within=within)

    def ask(
        self, number: int, method: str, path: str, token: str, client: int, body: Any = None, **headers: str
    ) -> Answer:
        """client: from which address it comes, since meta limits each address."""
        begin = self.clock()
        meta_host, _, port = self.metas[number].address.partition(":")
        source = (f"127.0.{client // 250}.{client % 250 + 1}", 0)
        connection = HTTPConnection(meta_host, int(port), timeout=TIMEOUT, source_address=source)
        sent = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            sent["Authorization"] = f"Bearer {token}"
        try:
            connection.request(method, path, None if body is None else json.dumps(body), sent)
            response = connection.getresponse()
            content = response.read()
        except (OSError, HTTPException):
            return Answer(Asked(number, begin, self.clock(), 0))
        finally:
            connection.close()
        asked = Asked(number, begin, self.clock(), response.status)
        is_json = "json" in (response.getheader("Content-Type") or "")
        return Answer(asked, json.loads(content) if is_json and content else None, response.getheader("ETag") or "")
