"""The database: the only package with SQL. SQLite by default, PostgreSQL by URL.

When a method that writes records or tokens returns, its change is on the disk. Reads see one committed state. Errors of the
database are raised as TryLater (away, locked, full, corrupt) or Misconfigured. Only the migrations create and change tables.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from meta.access.tokens import Token
from meta.errors import Misconfigured
from meta.records.history import Edit, Revision
from meta.records.model import RecordSet
from meta.store import dates, hosts, records, tokens
from meta.store.engine import PATIENCE, Database
from meta.store.hosts import AHEAD
from meta.store.migrate import Tables, check, findings, upgrade
from meta.store.rows import (
    Findings,
    Forgotten,
    Gone,
    Head,
    HeartbeatBatch,
    HostOrder,
    HostRow,
    Lost,
    Moved,
    Ordered,
    Since,
    Undecided,
)
from meta.store.sqlite.backup import backup
from meta.store.tokens import LastAdmin, Taken, TokenWrite
from updater.wire import urls
from updater.wire.text import in_plain_sight, quoted

__all__ = [
    "AHEAD",
    "Findings",
    "Forgotten",
    "Gone",
    "Head",
    "HeartbeatBatch",
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
    "Undecided",
]


class Store:
    """One database, and the transactions that the memory of this meta is based on (`Basis`). Safe for threads, not for forks.

    Every method may raise TryLater. If the database has lost a transaction that memory is based on, methods that read or write
    for memory raise Lost until `start_again`. After that nothing is written until `resume`.
    """

    def __init__(self, url: str, patience: float = PATIENCE, told: set[str] | None = None):
        """url: in the form of SQLAlchemy; patience: seconds until a silent PostgreSQL is given up; told: warnings about its
        time-outs that were already logged. Raises Misconfigured; uses neither disk nor network."""
        if not in_plain_sight(url):
            raise Misconfigured(f"the database {quoted(urls.shown(url))} has an invisible character; remove it")
        self._url, self._patience, self._told = url, patience, set() if told is None else told
        self._database = Database(url, patience, self._told)
        self.shown = self._database.shown

    def apart(self) -> "Store":
        """The same database with a separate pool of connections, and the same Basis."""
        made = Store(self._url, self._patience, self._told)
        made._database.basis = self._database.basis
        return made

    def upgrade(self, accepted: str = "") -> str:
        """Create or migrate the tables and check that they are writable; returns the id of their migration. Raises Undecided if
        hosts would get other answers, unless `accepted` is the seal of these findings."""
        return upgrade(self._database, accepted)

    def findings(self) -> Findings:
        """What `upgrade` would do that people should know; changes nothing."""
        return findings(self._database)

    def check(self) -> Tables:
        """Which tables exist; changes nothing. Raises TryLater if the database is away, or written by a newer meta."""
        return check(self._database)

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def head(self) -> Head:
        """The current serials, by one cheap read. Raises Lost, Forgotten."""
        with self._database.following() as (_, found):
            return found

    def require_sessions(self) -> None:
        """Raises Misconfigured if connections were lost, and the new ones go through a pooler that shares sessions.
        Closes the connections that are not in use."""
        self._database.refuse_transactions(if_lost=True)

    def clock(self) -> float | None:
        """Unix seconds by the database's clock; None for a file, which has none."""
        return self._database.clock()

    @property
    def may_be_shared(self) -> bool:
        """Whether other metas may use this database too. They write nothing while no host reports to them."""
        return self._database.dialect == "postgresql"

    def date_by(self, ahead: float) -> None:
        """Set by how many whole seconds our clock is ahead of the database's. Times of hosts and edits are converted by it."""
        self._database.basis.date_by(ahead, time.monotonic())

    @property
    def _ahead(self) -> float:
        return self._database.basis.ahead

    def start_again(self) -> None:
        """Clear the basis of memory: everything must be read again, and nothing is written until `resume`."""
        self._database.basis.clear()

    def resume(self) -> None:
        """Allow writing again, once memory has read everything that people can order."""
        self._database.basis.resume()

    @property
    def epoch(self) -> int:
        """How often everything was read again. Serials can be compared within one epoch."""
        return self._database.basis.epoch

    def backup(self, path: Path) -> None:
        """Copy a live SQLite database into a new file of mode 600. Raises Misconfigured for PostgreSQL, or if it exists."""
        backup(self._database, path)

    # --- records ---

    def load_records(self) -> RecordSet:
        """Everything that engineers have decided."""
        return records.load(self._database)

    def commit(self, before: RecordSet, after: RecordSet, edit: Edit) -> Revision:
        """Commit the change from `before` to `after` as the next revision. Raises Moved if before.revision is not the last.
        Raises Lost if the database does not have it, and Unknown if the database does not say whether it was committed."""
        return records.commit(self._database, before, after, dates.moved_edit(edit, -self._ahead))

    def order(self, before: RecordSet, edit: Edit, what: HostOrder) -> Ordered | None:
        """Retire or unretire hosts, with a revision after before.revision. None, and no revision, if nothing changes.
        Raises as `commit` does."""
        ahead = self._ahead
        edit, what = dates.moved_edit(edit, -ahead), dates.moved_order(what, -ahead)
        done = records.order(self._database, before, edit, what)
        return done and done._replace(rows=dates.moved_all(done.rows, ahead))

    def revisions(self, agent: str = "", before: int = 0, limit: int = 50) -> list[Revision]:
        """Revisions, newest first; their dates are by the database's clock. agent: only those about its record or its bans;
        before: only lower numbers."""
        return records.revisions(self._database, agent, before, limit)

    def revision(self, number: int) -> Revision | None:
        return records.one_revision(self._database, number)

    def last_of_records(self, limit: int) -> list[Revision]:
        """The newest revisions that changed a record, the newest first."""
        return records.last_of_records(self._database, limit)

    def revisions_since(self, number: int) -> list[Revision]:
        """All revisions with higher numbers, oldest first, ready to be replayed."""
        return records.revisions_since(self._database, number)

    def revisions_between(self, first: int, last: int) -> list[Revision]:
        """The revisions with these numbers and all between, oldest first. Waits only shortly for a locked table."""
        return records.revisions_between(self._database, first, last)

    # --- tokens ---

    def tokens(self) -> list[Token]:
        """All operators' and enrolment tokens, revoked and expired ones too, oldest first."""
        return tokens.load(self._database)[0]

    def tokens_at(self) -> tuple[list[Token], int]:
        """(`tokens`, the serial of this state)."""
        return tokens.load(self._database)

    def add_token(self, token: Token, by: int = 0, epoch: int | None = None) -> TokenWrite:
        """Store a token under a new id. by: id of the acting admin's token, 0 for direct access to the database.

        Raises Unauthorised if `by` is not an admin's any more. epoch, in all methods that write tokens: the epoch of the
        caller's memory; raises Lost if another one has begun.
        """
        return tokens.add(self._database, token, by, epoch)

    def revoke_token(self, token_id: int, now: float, by: int = 0, epoch: int | None = None) -> TokenWrite | None:
        """Revoke a token; None if there is no such token, or it is already revoked. Raises LastAdmin, Unauthorised."""
        return tokens.revoke(self._database, token_id, now, by, epoch)

    def use_enrolment(
        self, token_id: int, hostname: str, hashed: bytes, now: float, epoch: int | None = None
    ) -> TokenWrite:
        """Store the hash of a host's token, for one use of an enrolment token. Changes nothing on an error.

        Raises Unauthorised if the enrolment token is used up, expired or revoked. Raises Taken if the host has a valid token
        and the enrolment token does not `reenrol`. The caller checks the pattern.
        """
        return tokens.use_enrolment(self._database, token_id, hostname, hashed, now, epoch)

    def revoke_host_token(self, hostname: str, now: float, by: int = 0, epoch: int | None = None) -> int:
        """Revoke a host's token, so that it may enrol again. Returns the serial, 0 if it had none. Raises Unauthorised."""
        return tokens.revoke_host(self._database, hostname, now, by, epoch)

    def host_tokens(self, since: int = 0) -> Iterator[tuple[str, bytes, int]]:
        """(hostname, hash, serial) of hosts' tokens after this serial, in order; the hash of a revoked one is empty."""
        return tokens.host_tokens(self._database, since)

    # --- hosts ---

    def load_hosts(self) -> Iterator[HostRow]:
        """All hosts, by id. The iterator holds a connection until it is exhausted or closed.

        A heartbeat batch dated in the future counts only if nothing was written about the host after it.
        """
        found = hosts.load(self._database)
        return dates.moved_each(found, self._ahead) if self._ahead else found

    def save(
        self, meta: str, at: float, rows: Sequence[HostRow], seen: Sequence[int], earlier: Sequence[HeartbeatBatch] = ()
    ) -> dict[str, int]:
        """Write changed hosts, and heartbeat batches of unchanged ones, in one transaction. Returns the ids of new host names.

        seen: ids of hosts that reported in the second that began `at`; earlier: older batches. Later data of other metas are
        kept: reports, and retirements and their reversal; reports dated in the future are not. A known first_seen is kept. A
        row whose id the database does not know counts as new.
        """
        if not rows and not seen and not earlier:
            return {}
        by = -self._ahead
        rows, earlier = dates.moved_all(rows, by), dates.moved_batches(earlier, by)
        return hosts.save(self._database, dates.signed(meta, -by), at + by, rows, seen, earlier)

    def say_clock(self, meta: str, at: float) -> None:
        """Write an empty heartbeat batch, from which other metas learn how far our clock is ahead, or that it is not."""
        hosts.save(self._database, dates.signed(meta, self._ahead), at - self._ahead, (), (), ())

    def hosts_since(self, serial: int, meta: str) -> Since:
        """What other metas wrote after this serial."""
        found = hosts.since(self._database, serial, meta)
        return dates.moved_since(found, self._ahead) if self._ahead else found

    def fold(self, before: float, last_seen: Callable[[int], float], limit: int = 50) -> int:
        """Delete up to `limit` heartbeat batches older than `before`; returns how many.

        The rows of hosts that have not reported since get the time of the batch first. last_seen: when a host was last heard
        of, by its id; 0 if that is unknown.
        """
        ahead = self._ahead
        moved = ahead + self._database.basis.drifted(time.monotonic())  # older times in memory have another offset
        return hosts.fold(self._database, before - ahead, lambda number: last_seen(number) - moved, limit)

    def redate(self, meta: str, by: float, after: float) -> None:
        """Add `by` seconds to this meta's heartbeat batches later than `after`, since its clock was set."""
        hosts.redate(self._database, meta, by, after)

    def forget(self, at: float, ids: Sequence[int], before: float) -> Gone:
        """Delete those of these hosts that were retired earlier than `before`, and revoke their tokens older than that.

        Other metas learn of it by `hosts_since` and `host_tokens`. A host that reports again gets a new id.
        """
        return hosts.forget(self._database, at - self._ahead, ids, before - self._ahead)
