"""Reads what other metas wrote: records, tokens, tokens of hosts, and hosts.

Each of these parts is read on its own. If one cannot be read, for example because its table is locked, the others still are;
the failure is reported, and the next round tries again.

A database may have lost what was read or written here: after a failover that lost commits, a restored backup, or an absence
longer than its log. Then all of it is read again. Until the records and tokens are read, edits are refused. Until the hosts
are read, no host is written, because its id may be another host's.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

from meta.access.tokens import Tokens
from meta.errors import MetaError
from meta.hosts.table import HostTable
from meta.records import history
from meta.records.model import RecordSet
from meta.store import Forgotten, Head, Lost, Store
from meta.sync import other_metas, rows
from meta.sync.backlog import Backlog
from meta.sync.clocks import Clocks
from updater.wire.text import counted

RECORDS, TOKENS, HOST_TOKENS, HOSTS = "records", "tokens", "tokens of hosts", "hosts"
MOST_BETWEEN = 10  # revisions that are followed one by one
ORDERED = (RECORDS, TOKENS, HOST_TOKENS)  # what people edit
log = logging.getLogger(__name__)


class Follower:
    """Follows the database. For one thread.

    put_in_force: takes records that another meta edited, and `instead_of`: the records that they replace even if their revision
    is lower. backlog: cleared when ids are no longer valid. meta: the id of this process in the database.
    """

    def __init__(
        self,
        table: HostTable,
        store: Store,
        tokens: Tokens,
        put_in_force: Callable[..., None],
        backlog: Backlog,
        meta: str,
        monotonic: Callable[[], float] = time.monotonic,
    ):
        self._table = table
        self._store = store
        self._tokens = tokens
        self._put_in_force = put_in_force
        self._backlog = backlog
        self._meta = meta
        self._monotonic = monotonic
        self._began = 0.0  # when this round began, by `monotonic`: a round may take long
        self._reached = dict.fromkeys((TOKENS, HOST_TOKENS, HOSTS), 0)  # serials up to which everything was read
        self._again: set[str] = set()  # the parts that must be read again as a whole
        self._why_again = ""
        self._forgotten = 0.0  # see other_metas.renew
        self._former = RecordSet()  # in force before everything was read again
        self._waiting = 0  # hosts to write after everything was read again
        self.clocks = Clocks()
        self.is_deaf = ""  # why not even the head can be read; "": it can
        self.troubles: dict[str, str] = {}  # why a part cannot be followed, by part

    @property
    def refusing(self) -> str:
        """Why edits must be refused now; "": they need not be."""
        return self.is_deaf or (self._why_again if self._again.intersection(ORDERED) else "")

    @property
    def trouble(self) -> str:
        """Everything that cannot be followed, and why; "" if all is well."""
        apart = "; ".join(f"{part} cannot be followed: {why}" for part, why in self.troubles.items())
        return self.is_deaf or ": ".join(filter(None, (self._why_again if self._again else "", apart)))

    @property
    def knows_hosts(self) -> bool:
        return not self.is_deaf and HOSTS not in self.troubles and HOSTS not in self._again

    def load(self, now: float) -> None:
        """Fill the memory from the database. It must be empty. Raises TryLater."""
        self._store.date_by(self.clocks.ahead)
        head = self._store.head()
        self._put_in_force(self._store.load_records())
        self._tokens.replace(*self._store.tokens_at())
        self._tokens.hosts.renew(self._store.host_tokens(), head.tokens, self._store.epoch)
        rows.load(self._table, self._store.load_hosts(), now)
        self._reached = {TOKENS: head.tokens, HOST_TOKENS: head.tokens, HOSTS: head.hosts}

    def follow(self, now: float, written: float) -> None:
        """Follow once. Never raises.

        now, written: Unix seconds. All that this meta heard before `written` is in the database.
        """
        self._began = self._monotonic()
        found: list[Head] = []
        self.is_deaf = _why_not(lambda: found.append(self._look(written)), bool(self.is_deaf))
        if not found:
            return
        works: dict[str, Callable[[Head], Any]] = {
            RECORDS: self._follow_records,
            TOKENS: self._follow_tokens,
            HOST_TOKENS: self._follow_host_tokens,
            HOSTS: lambda head: self._follow_hosts(head, now, written),
        }
        before, self.troubles = self.troubles, {}
        for part, work in works.items():
            if why := _why_not(lambda work=work: work(found[0]), part in before):  # type: ignore[misc]
                self.troubles[part] = why
            else:
                self._again.discard(part)
        if not self._again.intersection(ORDERED):
            self._store.resume()
        if self._why_again and not self._again:
            self._tell_again()

    def _look(self, written: float) -> Head:
        head = self._head(written)
        self._store.require_sessions()
        return head

    def _head(self, written: float) -> Head:
        self._store.date_by(self.clocks.ahead)
        try:
            return self._store.head()
        except Lost as e:
            self._why_again = f"{e}: reading all of it again"
            log.error("%s", self._why_again)
            self._store.start_again()
            if not self._again:  # else they were set when this first happened
                self._former, self._forgotten = self._table.classes.records, 0.0
            if isinstance(e, Forgotten):
                self._forgotten = written
            self._again = {*ORDERED, HOSTS}
            self._backlog.clear()
            self._table.forget_ids()
            return self._store.head()

    def _tell_again(self) -> None:
        self._why_again = ""
        log.warning(
            "the database was read again: revision %d of the records is in force, before it was %d; writing %s again",
            self._table.classes.records.revision,
            self._former.revision,
            counted(self._waiting, "host"),
        )

    def _follow_records(self, head: Head) -> None:
        in_force = self._table.classes.records
        if (head.revision, head.revision_identity) == (in_force.revision, in_force.identity):
            return
        records = self._store.load_records()
        if (records.revision, records.identity) != (in_force.revision, in_force.identity):
            if self._between(in_force, records):
                self._put_in_force(records)
            else:
                self._put_in_force(records, instead_of=in_force)
            log.info("revision %d of the records is in force; it was made at another meta", records.revision)

    def _between(self, in_force: RecordSet, records: RecordSet) -> bool:
        """Put the records between these two in force, one after the other: hosts may have received them from other metas.

        Returns False, and does nothing, if they are not known, or too many.
        """
        if not 0 < in_force.revision < records.revision <= in_force.revision + MOST_BETWEEN:
            return False
        try:
            made = self._store.revisions_between(in_force.revision, records.revision)
        except MetaError:
            return False  # the records themselves were read
        identities = [one.identity for one in made]
        if not made or (identities[0], identities[-1]) != (in_force.identity, records.identity):
            return False
        found = [records]
        for one, identity in zip(made[:1:-1], identities[-2:0:-1], strict=True):
            found.append(history.before(found[-1], one, identity))
        for each in found[:0:-1]:
            self._put_in_force(each)
        return True

    def _follow_tokens(self, head: Head) -> None:
        if TOKENS in self._again:
            self._tokens.renew(*self._store.tokens_at(), self._store.epoch)
        elif head.tokens != self._reached[TOKENS]:
            self._tokens.replace(*self._store.tokens_at())
        self._reached[TOKENS] = head.tokens

    def _follow_host_tokens(self, head: Head) -> None:
        hosts, reached = self._tokens.hosts, self._reached[HOST_TOKENS]
        if HOST_TOKENS in self._again:
            hosts.renew(self._store.host_tokens(), head.tokens, self._store.epoch)
        elif head.tokens != reached:
            hosts.update(self._store.host_tokens(reached), head.tokens)
        self._reached[HOST_TOKENS] = head.tokens

    def _follow_hosts(self, head: Head, now: float, written: float) -> None:
        reached = head.hosts
        if HOSTS in self._again:
            self._waiting = other_metas.renew(self._table, self._store.load_hosts(), now, self._forgotten)
        elif reached != self._reached[HOSTS]:
            since = self._store.hosts_since(self._reached[HOSTS], self._meta)
            self.clocks.wrote(since.dates, now + self._monotonic() - self._began, since.ahead)
            other_metas.absorb(self._table, since, now, written)
            reached = since.serial
        self._reached[HOSTS] = reached


def _why_not(work: Callable[[], Any], is_known: bool) -> str:
    try:
        work()
    except MetaError as e:
        return str(e)
    except Exception as e:
        if not is_known:
            log.exception("cannot follow the database")
        return type(e).__name__
    return ""
