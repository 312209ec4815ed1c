"""Keeps memory and database together, behind the heartbeats' back: writes what changed, at most a second late, and follows what
other metas wrote: records, tokens, hosts.

A database that fails costs nothing but lateness: everything waits and is tried again, ever less often, up to RETRY_AT_MOST
seconds. The log tells when it starts to fail and when it works again, not each try.
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from meta import hostrows
from meta.auth import HostTokens, Tokens
from meta.errors import MetaError
from meta.hosts import HostTable
from meta.records import RecordSet
from meta.store import Store

GATHER = 0.4  # seconds in which further changes join the same transaction
RETRY_AT_MOST = 5.0
TIDY_EVERY = 10.0  # seconds
MAX_TICKS = 600  # ticks that wait for a database that is away; then they are joined
log = logging.getLogger(__name__)


class Lifetimes(NamedTuple):
    """Seconds. retire_after: without a beat, 0 = never; forget_after: since it was retired, 0 = never."""

    late_after: float = 900
    retire_after: float = 30 * 86400
    forget_after: float = 90 * 86400


class Condition(NamedTuple):
    """How well memory and database agree. waiting: hosts to be written; lag: seconds since everything was; trouble: why not."""

    waiting: int
    lag: float
    trouble: str


class Keeper:
    """One thread. put_in_force takes the records that another meta edited."""

    def __init__(
        self,
        table: HostTable,
        store: Store,
        tokens: Tokens,
        host_tokens: HostTokens,
        put_in_force: Callable[[RecordSet], None],
        lifetimes: Lifetimes,
    ):
        self._table = table
        self._store = store
        self._tokens = tokens
        self._host_tokens = host_tokens
        self._put_in_force = put_in_force
        self._lifetimes = lifetimes
        self._meta = secrets.token_hex(8)
        self._ticks: list[tuple[float, list[int]]] = []  # heard of, and not written yet
        self._known_tokens = self._known_hosts = -1
        self._failures = 0
        self._trouble = ""
        self._tidied = self._in_step = time.time()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def load(self, now: float) -> None:
        """Fill the memory, which must be empty. Raises TryLater."""
        head = self._store.head()
        self._put_in_force(self._store.load_records())
        self._read_tokens()
        hostrows.load(self._table, self._store.load_hosts(), now)
        self._known_tokens, self._known_hosts = head.tokens, head.hosts
        self._in_step = now

    def start(self) -> None:
        self._thread.start()

    def close(self, timeout: float) -> bool:
        """Write what is left, and stop. Returns whether everything was written within `timeout` seconds."""
        self._closing.set()
        self._thread.join(timeout)
        return not self._thread.is_alive() and not self._failures

    def condition(self, now: float) -> Condition:
        waiting = len(self._table.dirty) + sum(len(seen) for _, seen in self._ticks)
        return Condition(waiting, max(0.0, now - self._in_step), self._trouble)

    def _run(self) -> None:
        while not self._closing.wait(min(GATHER * (1 << self._failures), RETRY_AT_MOST)):
            self._step(time.time())
        self._step(time.time())

    def _step(self, now: float) -> None:
        try:
            self._write(now)
            self._follow()
            if now - self._tidied > TIDY_EVERY:
                self._tidied = now
                self._tidy(now)
        except Exception as e:
            if not isinstance(e, MetaError):
                log.exception("cannot keep the database in step")
            self._failed(str(e) if isinstance(e, MetaError) else type(e).__name__)
        else:
            if self._failures:
                log.warning("the database works again, and holds everything")
            self._failures, self._trouble, self._in_step = 0, "", now

    def _failed(self, why: str) -> None:
        if not self._failures:
            log.error("the database fails, will go on trying: %s", why)
        self._trouble = why
        self._failures = min(self._failures + 1, 16)

    def _write(self, now: float) -> None:
        taken = hostrows.take(self._table, now)
        if taken.seen:
            self._ticks.append((now, taken.seen))
            if len(self._ticks) > MAX_TICKS:
                (_, older), (at, later), *others = self._ticks
                self._ticks = [(at, list({*older, *later})), *others]
        try:
            while self._ticks or taken.rows:
                at, seen = self._ticks[0] if self._ticks else (now, [])
                ids = self._store.save(self._meta, at, taken.rows, seen)
                hostrows.learn_ids(self._table, ids)
                taken = hostrows.Taken([], [], [])
                del self._ticks[:1]
        except BaseException:
            hostrows.give_back(self._table, taken)
            raise

    def _follow(self) -> None:
        head = self._store.head()
        if head.revision > self._table.classes.records.revision:
            records = self._store.load_records()
            self._put_in_force(records)
            log.info("revision %d of the records is in force, made at another meta", records.revision)
        if head.tokens != self._known_tokens:
            self._read_tokens(self._known_tokens)
            self._known_tokens = head.tokens
        if head.hosts != self._known_hosts:
            since = self._store.hosts_since(self._known_hosts, self._meta)
            hostrows.absorb(self._table, since)
            self._known_hosts = since.serial

    def _read_tokens(self, since: int = 0) -> None:
        self._tokens.replace(self._store.tokens())
        self._host_tokens.update((name, hashed) for name, hashed, _ in self._store.host_tokens(max(since, 0)))

    def _tidy(self, now: float) -> None:
        horizon = now - self._lifetimes.late_after
        self._store.fold(horizon, self._last_seen)
        if self._lifetimes.retire_after:
            retired = self._table.retire_silent(now - self._lifetimes.retire_after, now)
            if retired:
                shown = ", ".join(retired[:5]) + (", ..." if len(retired) > 5 else "")
                log.info("retired %d hosts that were silent for too long: %s", len(retired), shown)
        if self._lifetimes.forget_after:
            self._forget(now - self._lifetimes.forget_after, now)

    def _last_seen(self, number: int) -> float:
        host = self._table.by_id.get(number)
        return host.last_seen if host else 0.0

    def _forget(self, before: float, now: float) -> None:
        with self._table.locked():
            gone = [host for host in self._table.retired if host.retired_at < before and host.id]
        if gone:
            self._store.forget(self._meta, now, [host.id for host in gone])
            with self._table.locked():
                for host in gone:
                    self._table.forget(host)
            log.info("forgot %d hosts that were retired long ago", len(gone))
