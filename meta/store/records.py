"""Records and their history in the database: revisions are only appended, and tables hold their current result."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from meta.errors import Unknown
from meta.records.history import BAN, HOST, LABELS, RECORD, TARBALL, Change, Edit, Revision, changes
from meta.records.model import Ban, Record, RecordSet, as_fields, from_fields
from meta.records.publications import Publication
from meta.store import hosts, retiring
from meta.store.counting import new_identity
from meta.store.engine import SHORT_WAIT, Database
from meta.store.rows import HostOrder, HostRow, Lost, Moved, Ordered
from meta.store.tables import ban, beat, change, head, host, label, record, revision, tarball

_BEFORE = sa.bindparam("its_number", type_=sa.Integer)
_IS_THERE = sa.or_(
    _BEFORE == 0,
    sa.exists().where(revision.c.number == _BEFORE, revision.c.identity == sa.bindparam("its_identity", type_=sa.Text)),
)
_ADD_REVISION = (
    sa.insert(revision)
    .from_select(
        [column.name for column in revision.c],
        sa.select(*(sa.bindparam(column.name, type_=column.type) for column in revision.c)).where(_IS_THERE),
    )
    .returning(revision.c.number)
)
_json = msgspec.json.Encoder()
_fields = msgspec.json.Decoder(dict[str, Any])
_labels = msgspec.json.Decoder(dict[str, str])


def load(database: Database) -> RecordSet:
    with database.following() as (connection, now):
        records = connection.execute(sa.select(record).order_by(record.c.position)).all()
        bans = connection.execute(sa.select(ban).order_by(ban.c.position)).all()
        labels = connection.execute(sa.select(label.c.hostname, label.c.body).order_by(label.c.hostname)).all()
        tarballs = connection.execute(sa.select(tarball).order_by(tarball.c.file)).all()
    return RecordSet(
        revision=now.revision,
        records=tuple(from_fields(_fields.decode(row.body)) for row in records),
        bans=tuple(Ban(row.agent, row.version, row.why, row.who, row.at) for row in bans),
        labels={hostname: _labels.decode(body) for hostname, body in labels},
        edited={row.name: row.revision for row in records},
        published={row.file: Publication(*row[1:]) for row in tarballs},
        identity=now.revision_identity,
    )


def commit(database: Database, before: RecordSet, after: RecordSet, edit: Edit) -> Revision:
    """Add one revision. Raises Unknown, Moved if the records are no longer at before.revision, and Lost if the database has
    another revision with this number."""
    with _adding(database, before, edit) as adding:
        made = adding.add(changes(before, after))
        _keep(adding.connection, before, after, made)
    return made


def order(database: Database, before: RecordSet, edit: Edit, what: HostOrder) -> Ordered | None:
    """Retire or unretire hosts, with a revision. Returns None if nothing changes. Raises as `commit` does."""
    with _adding(database, before, edit, (host, beat)) as adding:
        rows = retiring.judge(adding.connection, what)
        if not rows:
            adding.connection.rollback()
            return None
        made = adding.add(tuple(_host_changes(rows)))
        hosts.write_beside(adding.connection, what.meta, what.at, rows)
    return Ordered(made, rows)


class _Adding(NamedTuple):
    """A transaction that may add one revision."""

    connection: sa.Connection
    before: RecordSet
    edit: Edit
    identity: str

    def add(self, what: tuple[Change, ...]) -> Revision:
        edit, number = self.edit, self.before.revision + 1
        made = Revision(number, edit.at, edit.who, edit.why, edit.action, what, self.identity)
        values = {column.name: getattr(made, column.name) for column in revision.c}
        if self.connection.execute(_ADD_REVISION, values | _numbers(self.before)).first() is None:
            raise _lost(self.before)
        _each(self.connection, sa.insert(change), _change_rows(made))
        self.connection.execute(sa.update(head).values(revision_identity=self.identity))
        return made


@contextmanager
def _adding(database: Database, before: RecordSet, edit: Edit, tables: Sequence[sa.Table] = ()) -> Iterator[_Adding]:
    identity = new_identity()
    try:
        with database.writing("revision", tables, identity=identity) as (connection, serial):
            _require(connection, before, serial - 1)
            yield _Adding(connection, before, edit, identity)
    except Unknown as e:
        number = before.revision + 1
        raise Unknown(f"whether revision {number} was made is unknown; check `meta history` ({e})") from e


def _host_changes(rows: Iterable[HostRow]) -> Iterator[Change]:
    return (Change(HOST, row.hostname, row.retired_at < 0, row.retired_at > 0) for row in rows)


def _keep(connection: sa.Connection, before: RecordSet, after: RecordSet, made: Revision) -> None:
    """Update the tables that hold the current result of all revisions."""
    _keep_records(connection, before, after, made.number)
    if before.bans != after.bans:
        connection.execute(sa.delete(ban))
        _each(connection, sa.insert(ban), _ban_rows(after))
    _keep_labels(connection, [c for c in made.changes if c.kind == LABELS], made.number)
    _keep_tarballs(connection, [c for c in made.changes if c.kind == TARBALL])


def _numbers(before: RecordSet) -> dict[str, Any]:
    return {"its_number": before.revision, "its_identity": before.identity}


def _require(connection: sa.Connection, before: RecordSet, last: int) -> None:
    """Check, with the lock on the head held, that `before` is the last revision. Raises Lost, Moved."""
    if last < before.revision or (
        last > before.revision and not connection.execute(sa.select(_IS_THERE), _numbers(before)).scalar()
    ):
        raise _lost(before)
    if last != before.revision:
        raise Moved(f"the records are at revision {last} by now, no longer at {before.revision}")


def _lost(before: RecordSet) -> Lost:
    return Lost(
        f"the database does not have revision {before.revision} as it was in force here: it lost confirmed edits in a "
        "failover, or is a restored backup; review the records, and repeat your edit"
    )


def _each(connection: sa.Connection, statement: Any, rows: Iterable[dict[str, Any]]) -> None:
    if listed := list(rows):
        connection.execute(statement, listed)


def _change_rows(made: Revision) -> Iterable[dict[str, Any]]:
    for position, c in enumerate(made.changes):
        of_tarball = (c.after or c.before)["agent"] if c.kind == TARBALL else ""
        agent = {RECORD: c.name, BAN: c.name.partition("/")[0], TARBALL: of_tarball}.get(c.kind, "")
        before, after = (None if data is None else _json.encode(data).decode() for data in (c.before, c.after))
        row = {"position": position, "agent": agent, "kind": c.kind, "name": c.name, "before": before, "after": after}
        yield {"revision": made.number, **row}


def _ban_rows(after: RecordSet) -> Iterable[dict[str, Any]]:
    return ({"position": i, **msgspec.structs.asdict(ban)} for i, ban in enumerate(after.bans))


def _keep_records(connection: sa.Connection, before: RecordSet, after: RecordSet, number: int) -> None:
    old = {r.name: r for r in before.records}
    new = {r.name: r for r in after.records}
    position = {name: at for at, name in enumerate(new)}
    gone = [{"key": name} for name in old if new.get(name) != old[name]]
    come = [
        {"name": name, "position": position[name], "body": _record_body(r), "revision": number}
        for name, r in new.items()
        if old.get(name) != r
    ]
    _each(connection, sa.delete(record).where(record.c.name == sa.bindparam("key")), gone)
    _each(connection, sa.insert(record), come)
    if list(old) != list(new):
        moved = sa.update(record).where(record.c.name == sa.bindparam("key")).values(position=sa.bindparam("at"))
        _each(connection, moved, [{"key": name, "at": at} for name, at in position.items()])


def _record_body(of: Record) -> str:
    return _json.encode(as_fields([of])[0]).decode()


def _keep_labels(connection: sa.Connection, changed: list[Change], number: int) -> None:
    gone = [{"key": c.name} for c in changed if c.before is not None]
    bodies = {c.name: _json.encode(c.after).decode() for c in changed if c.after is not None}
    come = [{"hostname": hostname, "body": body, "revision": number} for hostname, body in bodies.items()]
    _each(connection, sa.delete(label).where(label.c.hostname == sa.bindparam("key")), gone)
    _each(connection, sa.insert(label), come)


def _keep_tarballs(connection: sa.Connection, changed: list[Change]) -> None:
    gone = [{"key": c.name} for c in changed if c.before is not None]
    come = [{"file": c.name, **c.after} for c in changed if c.after is not None]
    _each(connection, sa.delete(tarball).where(tarball.c.file == sa.bindparam("key")), gone)
    _each(connection, sa.insert(tarball), come)


def revisions(database: Database, agent: str, before: int, limit: int) -> list[Revision]:
    query = sa.select(revision).order_by(revision.c.number.desc()).limit(limit)
    if before:
        query = query.where(revision.c.number < before)
    if agent:
        query = query.where(revision.c.number.in_(sa.select(change.c.revision).where(change.c.agent == agent)))
    return _read(database, query)


def one_revision(database: Database, number: int) -> Revision | None:
    return next(iter(_read(database, sa.select(revision).where(revision.c.number == number))), None)


def last_of_records(database: Database, limit: int) -> list[Revision]:
    newest = sa.select(change.c.revision).where(change.c.kind == RECORD).distinct()
    newest = newest.order_by(change.c.revision.desc()).limit(limit)
    return _read(database, sa.select(revision).where(revision.c.number.in_(newest)).order_by(revision.c.number.desc()))


def revisions_since(database: Database, number: int) -> list[Revision]:
    return _read(database, sa.select(revision).where(revision.c.number > number).order_by(revision.c.number))


def revisions_between(database: Database, first: int, last: int) -> list[Revision]:
    query = sa.select(revision).where(revision.c.number.between(first, last)).order_by(revision.c.number)
    return _read(database, query, SHORT_WAIT)


def _read(database: Database, query: sa.Select[Any], lock_wait: float = 0.0) -> list[Revision]:
    made: dict[int, list[Change]] = {}
    with database.reading(lock_wait) as connection:
        found = connection.execute(query).all()
        numbers = query.with_only_columns(revision.c.number).subquery()
        of_them = sa.select(change).where(change.c.revision.in_(sa.select(numbers.c.number)))
        for row in connection.execute(of_them.order_by(change.c.revision, change.c.position)):
            one = Change(row.kind, row.name, _read_json(row.before), _read_json(row.after))
            made.setdefault(row.revision, []).append(one)
    return [Revision(**row._mapping, changes=tuple(made.get(row.number, ()))) for row in found]


def _read_json(text: str | None) -> Any:
    return None if text is None else msgspec.json.decode(text)
