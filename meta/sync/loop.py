"""The loop that keeps memory and database equal: it reads what other metas wrote, and writes what changed here.

Heartbeats never wait for it. Changes are written at most a second late. It reads first, and also while writing fails.

While the database fails, everything waits. The loop tries again, with pauses that grow to RETRY_AT_MOST seconds. The log says
when the failure begins and when it ends, not each attempt.
"""

import logging
import secrets
import threading
from collections.abc import Callable
from typing import NamedTuple

from meta.access.tokens import Tokens
from meta.edits.unlabelling import Unlabelling
from meta.errors import MetaError
from meta.hosts.table import HostTable
from meta.process.clock import SteadyClock
from meta.store import HeartbeatBatch, Store
from meta.sync import clocks, housekeeping, rows
from meta.sync.backlog import Backlog
from meta.sync.follower import Follower
from meta.sync.housekeeping import Lifetimes

GATHER = 0.4  # seconds between two rounds, so that many changes share a transaction
RETRY_AT_MOST = 5.0  # seconds
DAY = 86400.0  # seconds
TIDY_EVERY = 10.0  # seconds between two rounds of housekeeping
AT_ONCE = 100  # ticks that one transaction writes
log = logging.getLogger(__name__)


class Condition(NamedTuple):
    """How well memory and database agree."""

    waiting: int  # hosts that are to be written
    lag: float  # seconds since everything was written
    trouble: str  # why something cannot be read or written; "": all is well


class Keeper:
    """The thread that runs the loop. put_in_force: see Follower."""

    def __init__(
        self,
        table: HostTable,
        store: Store,
        tokens: Tokens,
        put_in_force: Callable[..., None],
        lifetimes: Lifetimes,
        unlabel: Unlabelling,
        clock: SteadyClock | None = None,
    ):
        self._table = table
        self._clock = clock or SteadyClock()
        self._store = store
        self._lifetimes = lifetimes
        self._unlabel = unlabel
        self.meta = secrets.token_hex(8)
        self._backlog = Backlog()
        self._follower = Follower(table, store, tokens, put_in_force, self._backlog, self.meta, self._clock.monotonic)
        self._unwritten = ""  # why the last write failed; "": it did not
        self._told = False  # the log says that the database fails
        self._is_in_vain = False  # it is closing, and could not read the hosts, so it must not write any
        self._read_failures = self._write_failures = 0  # in a row
        self._write_again = 0.0  # when to try again (Unix seconds)
        self._is_behind = False  # there is more to write than fits into one transaction
        self._tidied = self._in_step = self._up_since = self._clock.now()
        self._away = 0.0  # seconds before the start in which no host was heard of, if that was more than a day
        self._said = 0.0  # seconds that our clock is ahead, as other metas know
        self._was_set: list[tuple[float, float]] = []  # arguments for Store.redate
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def load(self, now: float) -> None:
        """Fill the memory from the database. It must be empty. Raises TryLater."""
        self._look_at_clock()
        self._ask_clock(now)
        self._follower.load(now)
        self._in_step = self._up_since = now
        away = self._table.unheard(now)
        self._away = away if away > DAY else 0.0

    def start(self) -> None:
        self._in_step = self._clock.now()  # so that a long load does not count as lag
        self._thread.start()

    def close(self, timeout: float) -> bool:
        """Write what is left, and end the thread. Returns whether everything was written within `timeout` seconds."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive() and not self._write_failures and not self._is_in_vain

    def condition(self, now: float) -> Condition:
        waiting = self._table.waiting + self._backlog.waiting
        return Condition(waiting, max(0.0, now - self._in_step), self._follower.trouble or self._unwritten)

    @property
    def clocks(self) -> clocks.Clocks:
        """What is known of other clocks."""
        return self._follower.clocks

    def warnings(self, now: float) -> list[str]:
        """Return warnings for a person about clocks, and about deletions that wait because of them."""
        found = self.clocks.warnings(now)
        waiting = ["no host is retired or forgotten until the clocks agree"] if found else []
        if self._away:
            days = f"{self._away / DAY:.0f} days"
            waiting.append(
                f"no host was heard of for {days} before meta started (was it away, or is its clock ahead?): hosts are "
                f"retired and forgotten {days} later"
            )
        return found + waiting

    @property
    def refusing(self) -> str:
        """Why edits must be refused now; "": they need not be."""
        return self._follower.refusing

    def _run(self) -> None:
        while not self._closing.wait(0 if self._is_behind else _pause(self._read_failures)):
            self._look_at_clock()
            self.step(self._clock.now())
        self.step(self._clock.now())

    def _look_at_clock(self) -> None:
        found = clocks.read(self._clock.wall, self._clock.monotonic)
        if by := clocks.was_set_by(clocks.Reading(self._clock.began, 0.0), found):
            log.warning("the clock was set by %+.0f s, or this machine slept: no host counts as silent for that", by)
            self._table.doubt()
            self._clock.follow(by)
            self.clock_was_set(by, self._clock.now())

    def clock_was_set(self, by: float, now: float) -> None:
        """Move all earlier times along with the wall clock, which was set by `by` seconds. now: the new time.

        No host is retired or deleted until hosts have had the time to report again.
        """
        self.clocks.was_set(by)
        if self.clocks.database is None:  # else rows are dated by the database's clock, which was not set
            self._was_set.append((by, now if by < 0 else 0.0))
        self._up_since, self._in_step = now, min(self._in_step + by, now)
        self._backlog.move_along(by, now)
        self._table.move_along(by, now)

    def step(self, now: float) -> None:
        """Do one round of the loop. Never raises."""
        is_closing = self._closing.is_set()
        self._follower.follow(now, self._in_step)
        self._read_failures = self._read_failures + 1 if self._follower.is_deaf else 0
        if not self._follower.knows_hosts:
            self._is_in_vain = is_closing
        elif is_closing or not 0 < self._write_again - now <= RETRY_AT_MOST:
            self._is_behind = False
            self._unwritten = self._why_not(self._keep_hosts, now)
            self._write_failures = self._write_failures + 1 if self._unwritten else 0
            self._write_again = now + _pause(self._write_failures) if self._unwritten else 0.0
        self._tell(self._follower.trouble or self._unwritten)

    def _why_not(self, work: Callable[[float], None], now: float) -> str:
        try:
            work(now)
        except MetaError as e:
            return str(e)
        except Exception as e:
            if not self._told:
                log.exception("cannot keep the database in step")
            return type(e).__name__
        return ""

    def _tell(self, trouble: str) -> None:
        if trouble and not self._told:
            log.error("the database fails; heartbeats are answered as before, and it is tried again: %s", trouble)
        elif self._told and not trouble:
            log.warning("the database works again, and has everything")
        self._told = bool(trouble)

    # --- writing what hosts reported ---

    def _keep_hosts(self, now: float) -> None:
        while not self._write(now) and self._closing.is_set():
            pass
        if not self._is_behind:
            self._in_step = now
            is_due = not 0 <= now - self._tidied < TIDY_EVERY
            self._say_clock(now, is_due)
            if not self._closing.is_set() and is_due:
                self._ask_clock(now)
                times, is_sure = self._lifetimes.without(self._away), not self.clocks.warnings(now)
                housekeeping.tidy(self._table, self._store, times, self._up_since, now, self._unlabel, is_sure)
                self._tidied = now

    def _say_clock(self, now: float, is_due: bool) -> None:
        """Tell other metas by how much our clock is wrong: at once, and again while it is, since they forget it."""
        ahead = self.clocks.ahead
        if ahead != self._said or (ahead and is_due):
            self._store.say_clock(self.meta, now)
            self._said = ahead

    def _ask_clock(self, now: float) -> None:
        before = self._clock.now()
        theirs = self._store.clock()
        self.clocks.asked(before, theirs, self._clock.now())
        self.clocks.tell(now)

    def _write(self, now: float) -> bool:
        """Write as much as one transaction may hold, so that following need not wait. Returns whether that was all."""
        while self._was_set:
            self._store.redate(self.meta, *self._was_set[0])
            del self._was_set[0]
        taken = rows.take(self._table, now)
        for batch in taken.batches:
            self._backlog.add(*batch)
        batches = self._backlog.first(AT_ONCE)
        last = batches[-1] if batches else HeartbeatBatch(now, ())
        try:
            ids = self._store.save(self.meta, last.at, taken.rows, last.seen, batches[:-1])
        except BaseException:
            self._table.mark_dirty(taken.hosts)
            raise
        self._table.mark_written(ids)
        self._backlog.drop(len(batches))
        self._is_behind = len(taken.rows) == rows.AT_MOST or self._backlog.waiting > 0
        return not self._is_behind


def _pause(failures: int) -> float:
    return min(GATHER * (1 << min(failures, 16)), RETRY_AT_MOST)
