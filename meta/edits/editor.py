"""Commits edits with optimistic locking, then puts them in force.

When `apply` returns, the edit is on the disk and in force here. If another meta commits first, the edit is repeated on the new
records, with all its checks. While the database is away, nothing changes. Authorisation is the caller's task.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from meta.edits import conflicts, operations
from meta.errors import EditRefused, MetaError, NotThere, Problem, TryLater
from meta.records import capacity, history, rollbacks
from meta.records.model import RecordSet
from meta.records.validate import why_problem
from meta.store import HostOrder, HostRow, Moved, Store
from updater.wire.text import one_line

TRIES = 5
TURN = 5.0  # seconds that an edit waits for others
SHOWN = 10  # names in a log line
HISTORY = 50  # revisions of an agent that are read at once
MAX_SINCE = 1000  # revisions that are read to describe a conflict
Change = Callable[[RecordSet], RecordSet]
T = TypeVar("T")
log = logging.getLogger(__name__)


class Done(NamedTuple):
    """What an edit did."""

    records: RecordSet  # after the edit
    changes: tuple[history.Change, ...]

    @property
    def revision(self) -> int:
        return self.records.revision


class Preview(NamedTuple):
    """What an edit would do."""

    revision: int  # of the records on which it is based
    changes: tuple[history.Change, ...]
    after: RecordSet


class Editor:
    """Makes edits, one at a time. Safe for threads."""

    def __init__(
        self,
        store: Store,
        in_force: Callable[[], RecordSet],
        put_in_force: Callable[[RecordSet], object],
        require_database: Callable[[], object] = lambda: None,
        turn: float = TURN,
        known_hosts: capacity.KnownHosts = capacity.no_hosts,
    ):
        """in_force: returns the records in force; put_in_force: activates others.

        require_database: raises TryLater while the database is known not to answer. turn: seconds that an edit waits for
        others in this process. known_hosts: the hosts that must be able to take their orders.
        """
        self._store = store
        self.in_force = in_force
        self._put_in_force = put_in_force
        self._require_database = require_database
        self._editing = threading.Lock()
        self._longest_wait = turn
        self._known_hosts = known_hosts

    def apply(self, edit: history.Edit, change: Change) -> Done:
        """Make this change; `change` may be called more than once. A change that has no effect makes no revision.

        Raises EditRefused, Conflict or TryLater, and then nothing was changed; Unknown if that cannot be determined now.
        """
        return self._made_on_last(edit, lambda before: self._make(edit, before, change))

    def order(self, edit: history.Edit, what: HostOrder) -> tuple[Done, Sequence[HostRow]]:
        """Retire hosts or take them back, with a revision; returns the result and the changed rows.

        An order without effect makes no revision. Raises EditRefused, TryLater, Unknown.
        """
        return self._made_on_last(edit, lambda before: self._order(edit, before, what))

    def _made_on_last(self, edit: history.Edit, make: Callable[[RecordSet], T]) -> T:
        if problem := why_problem(edit.why):
            raise EditRefused([Problem("", 0, problem)])
        self._require_database()
        with self._turn():
            before = self.in_force()
            for _ in range(TRIES):
                try:
                    return make(before)
                except Moved:
                    before = self._store.load_records()
        raise TryLater("others keep changing the records; try again")

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._editing.acquire(timeout=self._longest_wait):
            raise TryLater(
                f"another edit has been waiting for the database for more than {self._longest_wait:g} s; try again"
            )
        try:
            yield
        finally:
            self._editing.release()

    def preview(self, change: Change) -> Preview:
        """Return what this change would do to the records in force. Raises as the change does."""
        before = self.in_force()
        after = self._changed(before, change)
        return Preview(before.revision, history.changes(before, after), after)

    def _order(self, edit: history.Edit, before: RecordSet, what: HostOrder) -> tuple[Done, Sequence[HostRow]]:
        """Raises Moved."""
        ordered = self._store.order(before, edit, what)
        if ordered is None:
            self._put_last_in_force(before)
            return Done(before, ()), ()
        return self._done(before, ordered.revision), ordered.rows

    def _make(self, edit: history.Edit, before: RecordSet, change: Change) -> Done:
        """Make the change on `before`. Raises Moved if the database has newer records.

        That is checked for refusals and for changes without effect, too, since memory may be behind another meta's edit.
        """
        try:
            after = self._changed(before, change)
        except MetaError:
            self._require_last(before)
            raise
        if not history.changes(before, after):
            self._require_last(before)
            self._put_last_in_force(before)
            return Done(before, ())
        return self._done(after, self._store.commit(before, after, edit))

    def _done(self, after: RecordSet, revision: history.Revision) -> Done:
        made = history.committed(after, revision)
        self._put_in_force(made)
        log.info("%s", _told(revision))
        return Done(made, revision.changes)

    def _changed(self, before: RecordSet, change: Change) -> RecordSet:
        """The records after the change. Raises as the change does, and EditRefused if it is too much for a host."""
        after = change(before)
        capacity.require(before, after, self._known_hosts)
        return after

    def _put_last_in_force(self, records: RecordSet) -> None:
        if records is not self.in_force():
            self._put_in_force(records)

    def _require_last(self, before: RecordSet) -> None:
        head = self._store.head()
        if (head.revision, head.revision_identity) != (before.revision, before.identity):
            raise Moved(f"the records are at revision {head.revision} by now, no longer at {before.revision}")

    # --- helpers for changes ---

    def require(self, records: RecordSet, agent: str, expected: int) -> None:
        """Raise Conflict unless the agent's record is still that of revision `expected` (0: there is none)."""
        if records.edited.get(agent, 0) != expected:
            conflicts.require(records, agent, expected, self._since(records, expected))

    def require_all(self, records: RecordSet, expected: int, agent: str = "") -> None:
        """Raise Conflict unless all records, or that of one agent, are still what they were at revision `expected`."""
        if records.revision != expected:
            conflicts.require_all(records, expected, self._since(records, expected), agent)

    def way_back(self, records: RecordSet, agent: str, to: int | None = None) -> rollbacks.Way:
        """The agent's record after revision `to`; by default before its newest change that was not a rollback.
        Raises NotThere for a revision or an agent that never existed."""
        self._require_revision(records, to or 0)
        present, past = records.record(agent), self._history(agent, records.revision)
        if to is None:
            return rollbacks.last_change(present, agent, past)
        return rollbacks.after_revision(present, agent, to, past)

    def rollback(self, records: RecordSet, to: int) -> RecordSet:
        """The records as they were after revision `to`."""
        self._require_revision(records, to)
        since = [one for one in self._store.revisions_since(to) if one.number <= records.revision]
        return operations.rollback(records, since[::-1])

    def _require_revision(self, records: RecordSet, number: int) -> None:
        if not 0 <= number <= records.revision:
            raise NotThere(f"there is no revision {number}; the last is {records.revision}")

    def _history(self, agent: str, last: int) -> Iterator[history.Revision]:
        """The revisions up to `last` that changed anything of this agent, newest first."""
        before = last + 1
        while found := self._store.revisions(agent, before, HISTORY):
            yield from found
            before = found[-1].number

    def _since(self, records: RecordSet, expected: int) -> list[history.Revision]:
        if not 0 < records.revision - expected <= MAX_SINCE:
            return []
        return [one for one in self._store.revisions_since(expected) if one.number <= records.revision]


def _told(revision: history.Revision) -> str:
    """An edit on one line of the log."""
    names = list(dict.fromkeys(change.name or change.kind for change in revision.changes))
    shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
    why = f": {revision.why}" if revision.why else ""
    return one_line(f"revision {revision.number}: {revision.action} {shown} by {revision.who}{why}", 1000)
