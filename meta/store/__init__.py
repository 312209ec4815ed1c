"""The database, behind one door: the only package with SQL. SQLite by default, PostgreSQL by URL.

Promises: what an edit or a token's method returned from is on the disk; what is read is one committed state; foreign errors
come out as TryLater (away, locked, full, corrupt) or Misconfigured. The tables are made and changed by the migrations alone.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from meta.access.tokens import Token
from meta.errors import Misconfigured
from meta.records.history import Edit, Revision
from meta.records.model import RecordSet
from meta.store import dates, hosts, records, tokens
from meta.store.counting import look
from meta.store.engine import PATIENCE, Database
from meta.store.hosts import AHEAD
from meta.store.migrate import Tables, check, upgrade
from meta.store.rows import Beat, Forgotten, Gone, Head, HostOrder, HostRow, Lost, Moved, Ordered, Since
from meta.store.sqlite.backup import backup
from meta.store.tokens import LastAdmin, Taken, TokenWrite
from updater.wire import urls
from updater.wire.text import in_plain_sight, quoted

__all__ = [
    "AHEAD",
    "Beat",
    "Forgotten",
    "Gone",
    "Head",
    "HostOrder",
    "HostRow",
    "LastAdmin",
    "Lost",
    "Moved",
    "Ordered",
    "Since",
    "Store",
    "Tables",
    "Taken",
    "Token",
    "TokenWrite",
]


class Store:
    """One database, and what the memory rests on that follows it. Safe for threads; after a fork each process needs its own.
    Every method may raise TryLater. What writes or reads for memory raises Lost once the database does not hold any more what
    was read or written so before, until `start_again`, and writes nothing then until `resume`."""

    def __init__(self, url: str, patience: float = PATIENCE, told: set[str] | None = None):
        """url: as SQLAlchemy writes it; patience: seconds until a PostgreSQL that is silent is given up; told: what was said of
        its time-outs before, which is not said again. Raises Misconfigured; touches neither disk nor network."""
        if not in_plain_sight(url):
            raise Misconfigured(f"the database {quoted(urls.shown(url))} has a character that cannot be seen")
        self._url, self._patience, self._told = url, patience, set() if told is None else told
        self._database = Database(url, patience, self._told)
        self.shown = self._database.shown

    def apart(self) -> "Store":
        """The same database by connections of its own, which nobody else can use up; what memory rests on is the same, too."""
        made = Store(self._url, self._patience, self._told)
        made._database.basis = self._database.basis
        return made

    def upgrade(self) -> str:
        """Make or migrate the tables and prove that they can be written; returns the revision they are at."""
        return upgrade(self._database)

    def check(self) -> Tables:
        """Which tables there are; changes nothing. Raises TryLater for a database that is away, or written by a newer meta."""
        return check(self._database)

    def close(self) -> None:
        """Let go of all connections."""
        self._database.close()

    def ping(self) -> None:
        """Raises TryLater when the database cannot be read."""
        with self._database.reading() as connection:
            look(connection, frozenset())

    def head(self) -> Head:
        """How far everything is: one cheap read. Raises Lost, Forgotten."""
        with self._database.following() as (_, found):
            return found

    def clock(self) -> float | None:
        """Unix seconds by the database's clock; None for a file, which has none."""
        return self._database.clock()

    def date_by(self, ahead: float) -> None:
        """Our clock is so many whole seconds ahead of the database's: times of hosts go in and come out accordingly."""
        self._database.basis.date_by(ahead, time.monotonic())

    @property
    def _ahead(self) -> float:
        return self._database.basis.ahead

    def start_again(self) -> None:
        """Memory forgets what it rests on: everything is read again, and nothing is written until `resume`."""
        self._database.basis.clear()

    def resume(self) -> None:
        """Memory knows again whatever people can order."""
        self._database.basis.resume()

    @property
    def epoch(self) -> int:
        """How often everything was read again. Serials can be compared within one."""
        return self._database.basis.epoch

    def backup(self, path: Path) -> None:
        """Copy a live SQLite database into a new file, mode 600. Raises Misconfigured for PostgreSQL, and for a file that
        exists."""
        backup(self._database, path)

    # --- records ---

    def load_records(self) -> RecordSet:
        """Everything that engineers have decided."""
        return records.load(self._database)

    def commit(self, before: RecordSet, after: RecordSet, edit: Edit) -> Revision:
        """Make `after` of `before` durable, as the revision after before.revision. Raises Moved when that is no longer the
        last, Lost when the database does not hold that one, Unknown when it does not say whether it was made."""
        return records.commit(self._database, before, after, edit)

    def order(self, before: RecordSet, edit: Edit, what: HostOrder) -> Ordered | None:
        """Do this to hosts, and tell it in the revision after before.revision. None, and no revision, where all of it is so
        already. Raises as `commit` does."""
        ahead = self._ahead
        done = records.order(self._database, before, edit, dates.moved_order(what, -ahead))
        return done and done._replace(rows=dates.moved_all(done.rows, ahead))

    def revisions(self, agent: str = "", before: int = 0, limit: int = 50) -> list[Revision]:
        """The newest first. agent: only those that changed its record or a ban of it; before: only those with lower numbers."""
        return records.revisions(self._database, agent, before, limit)

    def revision(self, number: int) -> Revision | None:
        return records.one_revision(self._database, number)

    def last_of_records(self, limit: int) -> list[Revision]:
        """The newest revisions that changed a record, the newest first."""
        return records.last_of_records(self._database, limit)

    def revisions_since(self, number: int) -> list[Revision]:
        """All with higher numbers, oldest first, ready to be replayed."""
        return records.revisions_since(self._database, number)

    # --- tokens ---

    def tokens(self) -> list[Token]:
        """All operators' and enrolment tokens, revoked and expired ones too, oldest first."""
        return tokens.load(self._database)[0]

    def tokens_at(self) -> tuple[list[Token], int]:
        """The same, and the serial at which they are so."""
        return tokens.load(self._database)

    def add_token(self, token: Token, by: int = 0, epoch: int | None = None) -> TokenWrite:
        """Its id is a new one, whatever it was. by: the id of the token of who does it, 0: who has the database itself. Raises
        Unauthorised when that is no admin's any more. epoch, of all that writes tokens: of the memory that is to learn it;
        raises Lost where another has begun."""
        return tokens.add(self._database, token, by, epoch)

    def revoke_token(self, token_id: int, now: float, by: int = 0, epoch: int | None = None) -> TokenWrite | None:
        """Returns None when there is no such token, or it is revoked already. Raises LastAdmin, and Unauthorised as above."""
        return tokens.revoke(self._database, token_id, now, by, epoch)

    def use_enrolment(
        self, token_id: int, hostname: str, hashed: bytes, now: float, epoch: int | None = None
    ) -> TokenWrite:
        """Give the host a token (its hash) for one use of an enrolment token. What fails changes nothing: raises Unauthorised
        when that one is used up, expired or revoked, and Taken when the host has a token that nobody revoked and this one does
        not `reenrol`. The pattern is the caller's to check."""
        return tokens.use_enrolment(self._database, token_id, hostname, hashed, now, epoch)

    def revoke_host_token(self, hostname: str, now: float, by: int = 0, epoch: int | None = None) -> int:
        """The host may enrol again. Returns the serial of the change, 0 when the host had no token. Raises Unauthorised."""
        return tokens.revoke_host(self._database, hostname, now, by, epoch)

    def host_tokens(self, since: int = 0) -> Iterator[tuple[str, bytes, int]]:
        """(hostname, hash, serial) of hosts' tokens later than this serial, in its order; a revoked one's hash is blank."""
        return tokens.host_tokens(self._database, since)

    # --- hosts ---

    def load_hosts(self) -> Iterator[HostRow]:
        """All hosts, by id. Keeps a connection until it is exhausted or closed. A beat that is dated later than the database's
        now counts only where nothing was written of the host after it."""
        found = hosts.load(self._database)
        return dates.moved_each(found, self._ahead) if self._ahead else found

    def save(
        self, meta: str, at: float, rows: Sequence[HostRow], seen: Sequence[int], earlier: Sequence[Beat] = ()
    ) -> dict[str, int]:
        """Write in one transaction, as this meta, the hosts that changed, and that others (ids) were heard of in the second
        that began `at`, and earlier. What another meta wrote of a host stays where it is later: its report, that it was put
        aside or taken back; but no report stays for being dated later than the database's now. first_seen stays where it is
        known. Returns the ids of the hostnames that were new; a row whose id the database does not know counts as new."""
        by = -self._ahead
        rows, earlier = dates.moved_all(rows, by), dates.moved_beats(earlier, by)
        return hosts.save(self._database, meta, at + by, rows, seen, earlier)

    def hosts_since(self, serial: int, meta: str) -> Since:
        """What other metas wrote after this serial."""
        found = hosts.since(self._database, serial, meta)
        return dates.moved_since(found, self._ahead) if self._ahead else found

    def fold(self, before: float, last_seen: Callable[[int], float], limit: int = 50) -> int:
        """Do away with up to `limit` beats older than `before`; hosts in them of which `last_seen` (by id, 0 for unknown) knows
        no later report get that beat's time into their row. Returns how many went; if `limit`, there may be more."""
        ahead = self._ahead
        moved = ahead + self._database.basis.drifted(time.monotonic())  # what memory has from before is dated otherwise
        return hosts.fold(self._database, before - ahead, lambda number: last_seen(number) - moved, limit)

    def redate(self, meta: str, by: float, after: float) -> None:
        """The clock of this meta was set by so many seconds: what its beats date later than `after` was that much later."""
        hosts.redate(self._database, meta, by, after)

    def forget(self, at: float, ids: Sequence[int], before: float) -> Gone:
        """Delete those of these hosts that are retired since before this, and take back the tokens that they have since before
        then; returns which. Every meta learns it by `hosts_since` and `host_tokens`. One that reports again gets a new id."""
        return hosts.forget(self._database, at - self._ahead, ids, before - self._ahead)
