"""What breaks, one thing after the other, each for some seconds; chosen by the seed."""

import contextlib
import logging
import signal
import time
from collections.abc import Callable, Iterator
from random import Random
from threading import Event

import psycopg

from lab.fleet import Late, until
from lab.line import CUT, CUT_BEFORE, HOLD, PASS
from lab.partitions.history import Fault, History, Loss, SuddenLoss
from lab.partitions.judging import AFTER
from lab.partitions.people import People
from lab.partitions.site import METAS, Site

EVERYBODY = tuple(range(METAS))
CALM_EVERY, CALM_FOR = 90.0, 40.0  # seconds; in each calm time it is judged how far metas are behind each other
log = logging.getLogger(__name__)


class Breaker:
    """Breaks and heals until `ended`."""

    def __init__(self, site: Site, history: History, people: People, seed: int, ended: Event):
        self._site, self._history, self._people, self._ended = site, history, people, ended
        self._random = Random(seed)
        self._kinds: dict[str, tuple[Callable[[int], contextlib.AbstractContextManager[None]], bool]] = {
            "refused connections": (self._refused, False),
            "a frozen line": (self._frozen, False),
            "late answers": (self._late, False),
            "broken connections": (self._cut, False),
            "commits whose answer is cut off": (lambda meta: self._at_commit(meta, CUT), False),
            "commits whose answer never comes": (lambda meta: self._at_commit(meta, HOLD), False),
            "commits that do not arrive": (lambda meta: self._at_commit(meta, CUT_BEFORE), False),
            "a stopped meta": (self._stopped, False),
            "a killed meta": (self._killed, False),
            "a table that is locked": (self._locked_table, True),
            "a transaction that freezes": (self._locked_head, True),
            "a database that is restarted": (self._restarted, True),
            "a failover to an asynchronous standby": (self._failed_over, True),
            "a failover that loses what was just acknowledged": (self._lost_at_once, True),
        }

    def run(self, seconds: float) -> None:
        """Every kind at least once, if there is time, in the seed's order."""
        begin = calm = time.monotonic()
        names: list[str] = []
        while time.monotonic() - begin < seconds and not self._ended.is_set():
            if not names:
                names = self._random.sample(sorted(self._kinds), len(self._kinds))
            if time.monotonic() - calm > CALM_EVERY:
                self._ended.wait(CALM_FOR)
                calm = time.monotonic()
            self._break(names.pop())
            self._ended.wait(self._random.uniform(1.0, 4.0))

    def _break(self, name: str) -> None:
        work, is_everybodys = self._kinds[name]
        meta, seconds = self._random.randrange(METAS), self._random.uniform(1.0, 5.0)
        metas = EVERYBODY if is_everybodys else (meta,)
        begin = self._site.clock()
        with work(meta):
            self._ended.wait(seconds)
        fault = Fault(name, metas, begin, self._site.clock())
        self._history.faults.append(fault)
        log.info("%6.1f s: %s, meta %s, for %.1f s", begin, name, "all" if is_everybodys else meta, fault.end - begin)

    # --- each of them ---

    @contextlib.contextmanager
    def _refused(self, meta: int) -> Iterator[None]:
        line = self._site.lines[meta]
        line.refusing = True
        line.cut()
        yield
        line.heal()

    @contextlib.contextmanager
    def _frozen(self, meta: int) -> Iterator[None]:
        self._site.lines[meta].frozen.set()
        yield
        self._site.lines[meta].heal()

    @contextlib.contextmanager
    def _late(self, meta: int) -> Iterator[None]:
        self._site.lines[meta].delay = self._random.choice([0.05, 0.5, 3.0])
        yield
        self._site.lines[meta].heal()

    @contextlib.contextmanager
    def _cut(self, meta: int) -> Iterator[None]:
        self._site.lines[meta].cut()
        yield
        self._site.lines[meta].cut()

    @contextlib.contextmanager
    def _at_commit(self, meta: int, what: str) -> Iterator[None]:
        line = self._site.lines[meta]
        line.at_commit = what
        yield
        line.at_commit = PASS

    @contextlib.contextmanager
    def _stopped(self, meta: int) -> Iterator[None]:
        self._site.signal(meta, signal.SIGSTOP)
        yield
        self._site.signal(meta, signal.SIGCONT)

    @contextlib.contextmanager
    def _killed(self, meta: int) -> Iterator[None]:
        self._history.kills.append((meta, self._site.clock()))
        self._site.metas[meta].kill()
        yield
        self._site.start(meta)

    @contextlib.contextmanager
    def _locked_table(self, _meta: int) -> Iterator[None]:
        with self._transaction() as connection:
            mode = self._random.choice(["ACCESS EXCLUSIVE", "SHARE"])
            table = self._random.choice(["host", "host", "token", "host_token", "agent_record", "revision"])
            connection.execute(f"LOCK TABLE {table} IN {mode} MODE")
            yield

    @contextlib.contextmanager
    def _locked_head(self, _meta: int) -> Iterator[None]:
        with self._transaction() as connection:
            connection.execute("SELECT * FROM head FOR UPDATE")
            yield

    @contextlib.contextmanager
    def _transaction(self) -> Iterator["psycopg.Connection[tuple[object, ...]]"]:
        with contextlib.closing(psycopg.connect(self._site.primary.url)) as connection:
            yield connection
            connection.rollback()

    @contextlib.contextmanager
    def _restarted(self, _meta: int) -> Iterator[None]:
        self._site.primary.stop()
        yield
        self._site.primary.start()

    @contextlib.contextmanager
    def _failed_over(self, _meta: int) -> Iterator[None]:
        """The standby has heard nothing for some seconds when it takes over."""
        begin = self._stop_replication()
        yield
        self._fail_over(begin)
        self._site.follow()

    @contextlib.contextmanager
    def _lost_at_once(self, meta: int) -> Iterator[None]:
        """An order is acknowledged, and lost in the same moment, before its meta looks again or in the look after."""
        what, order = self._people.sudden(self._random, meta)
        begin = self._stop_replication()
        before = self._site.readings(meta)
        was_acknowledged = order()
        self._fail_over(begin)
        self._site.follow()
        yield
        if was_acknowledged:
            noticed = self._comes_true(lambda: self._site.readings(meta) > before)
            self._history.sudden.append(SuddenLoss(meta, what, noticed))

    @staticmethod
    def _comes_true(probe: Callable[[], bool]) -> bool:
        try:
            return until("it is noticed", probe, within=AFTER)
        except Late:
            return False

    def _stop_replication(self) -> float:
        """Returns since when everything may be lost."""
        begin = self._site.clock()
        until("the standby follows", self._site.is_followed, self._site.position(), within=60)
        self._site.replication.frozen.set()
        return begin

    def _fail_over(self, begin: float) -> None:
        self._site.fail_over()
        self._history.losses.append(Loss(begin, self._site.clock()))
