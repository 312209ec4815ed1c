"""Keeps memory and database together, behind the heartbeats' back: writes what changed, at most a second late, and follows what
other metas wrote: records, tokens, hosts.

A database that fails costs nothing but lateness: everything waits and is tried again, ever less often, up to RETRY_AT_MOST
seconds. The log tells when it starts to fail and when it works again, not each try.
"""

import logging
import secrets
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from meta import hostrows
from meta.absorb import absorb
from meta.auth import Tokens
from meta.errors import MetaError, Misconfigured
from meta.hosts import HostTable
from meta.records import RecordSet
from meta.store import Store
from meta.tidy import Lifetimes, tidy

__all__ = ["Backlog", "Condition", "Keeper", "Lifetimes"]
GATHER = 0.4  # seconds in which further changes join the same transaction
RETRY_AT_MOST = 5.0
TIDY_EVERY = 10.0  # seconds
FEW = 100_000
log = logging.getLogger(__name__)


class Condition(NamedTuple):
    """How well memory and database agree. waiting: hosts to be written; lag: seconds since everything was; trouble: why not."""

    waiting: int
    lag: float
    trouble: str


class Backlog:
    """Who was heard of when (ids), and is not written yet. However long the database is away, it grows no longer than the hosts
    are many: of each only the last time counts. few: ids that may wait twice."""

    def __init__(self, few: int = FEW) -> None:
        self._ticks: deque[tuple[float, array[int]]] = deque()
        self._few = self._limit = few
        self.waiting = 0

    def add(self, at: float, seen: Sequence[int]) -> None:
        if not seen:
            return
        self._ticks.append((at, array("I", seen)))
        self.waiting += len(seen)
        if self.waiting > self._limit:
            self._compact()

    def first(self) -> tuple[float, Sequence[int]] | None:
        return self._ticks[0] if self._ticks else None

    def drop_first(self) -> None:
        self.waiting -= len(self._ticks.popleft()[1])

    def _compact(self) -> None:
        later: set[int] = set()
        kept: deque[tuple[float, array[int]]] = deque()
        for at, seen in reversed(self._ticks):
            new = array("I", [number for number in seen if number not in later])
            later.update(new)
            if new:
                kept.appendleft((at, new))
        self._ticks, self.waiting = kept, len(later)
        self._limit = 2 * self.waiting + self._few


class Keeper:
    """One thread. put_in_force takes the records that another meta edited."""

    def __init__(
        self,
        table: HostTable,
        store: Store,
        tokens: Tokens,
        put_in_force: Callable[[RecordSet], None],
        lifetimes: Lifetimes,
    ):
        self._table = table
        self._store = store
        self._tokens = tokens
        self._put_in_force = put_in_force
        self._lifetimes = lifetimes
        self._meta = secrets.token_hex(8)
        self._backlog = Backlog()
        self._known_tokens = self._known_hosts = -1
        self._failures = 0
        self._trouble = ""
        self._tidied = self._in_step = self._up_since = time.time()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def load(self, now: float) -> None:
        """Fill the memory, which must be empty. Raises TryLater."""
        head = self._store.head()
        self._put_in_force(self._store.load_records())
        self._read_tokens(0, head.tokens)
        hostrows.load(self._table, self._store.load_hosts(), now)
        self._known_tokens, self._known_hosts = head.tokens, head.hosts
        self._in_step = self._up_since = now

    def start(self) -> None:
        self._in_step = time.time()  # a long load is no lag
        self._thread.start()

    def close(self, timeout: float) -> bool:
        """Write what is left, and stop. Returns whether everything was written within `timeout` seconds."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive() and not self._failures

    def condition(self, now: float) -> Condition:
        waiting = len(self._table.dirty) + self._backlog.waiting
        return Condition(waiting, max(0.0, now - self._in_step), self._trouble)

    def _run(self) -> None:
        while not self._closing.wait(min(GATHER * (1 << self._failures), RETRY_AT_MOST)):
            self.step(time.time())
        self.step(time.time())

    def step(self, now: float) -> None:
        """One round, as the thread makes them: never raises."""
        try:
            self._write(now)
            if not self._closing.is_set():
                self._follow(now)
                self._tidy(now)
        except MetaError as e:
            self._failed(str(e))
        except Exception as e:
            if not self._failures:
                log.exception("cannot keep the database in step")
            self._failed(type(e).__name__)
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
        """Everything, in some transactions if it is much."""
        while True:
            taken = hostrows.take(self._table, now)
            self._backlog.add(now, taken.seen)
            is_rest = len(taken.rows) < hostrows.AT_MOST
            self._save(taken, now)
            if is_rest:
                return

    def _save(self, taken: hostrows.Taken, now: float) -> None:
        try:
            while taken.rows or self._backlog.first():
                at, seen = self._backlog.first() or (now, ())
                ids = self._store.save(self._meta, at, taken.rows, seen)
                hostrows.learn_ids(self._table, ids)
                taken = hostrows.Taken([], [], [])
                if seen:
                    self._backlog.drop_first()
        except BaseException:
            hostrows.give_back(self._table, taken)
            raise

    def _follow(self, now: float) -> None:
        in_force = self._table.classes.records.revision
        head = self._store.head()
        if head.revision > in_force:
            records = self._store.load_records()
            self._put_in_force(records)
            log.info("revision %d of the records is in force, made at another meta", records.revision)
        if head.tokens != self._known_tokens:
            self._read_tokens(self._known_tokens, head.tokens)
            self._known_tokens = head.tokens
        if head.hosts != self._known_hosts:
            since = self._store.hosts_since(self._known_hosts, self._meta)
            absorb(self._table, since, now)
            self._known_hosts = since.serial
        if head.revision < in_force:  # it was restored
            raise Misconfigured(
                f"the database holds revision {head.revision}, and {in_force} is in force: restart meta"
            )

    def _read_tokens(self, since: int, reached: int) -> None:
        """What changed after the serial `since`. reached: a serial of which we know that it was there before we read."""
        self._tokens.replace(*self._store.tokens_at())
        self._tokens.hosts.update(self._store.host_tokens(max(since, 0)), reached)

    def _tidy(self, now: float) -> None:
        if not 0 <= now - self._tidied < TIDY_EVERY:
            tidy(self._table, self._store, self._meta, self._lifetimes, self._up_since, now)
            self._tidied = now
