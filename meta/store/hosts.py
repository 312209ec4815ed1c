"""Hosts in the database. A changed host is written to its row; those that only reported share one, a heartbeat batch.

A host's last_seen is the later one of its row and its last batch. Old batches are compacted (folded): their time is copied into
rows of hosts not seen since, and they are deleted. A batch also lists the rows written with it, by which other metas find them;
a follower that missed compacted batches scans all rows. A row dated more than AHEAD seconds in the future is from a clock that
was set back since, and newer data replace it.
"""

import sys
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from meta.store.dates import clocks_of
from meta.store.engine import PATIENCE, SHORT_WAIT, Database
from meta.store.rows import Gone, HeartbeatBatch, HostRow, Since
from meta.store.tables import beat, head, host, host_token

BATCH = 1000  # rows sent at once, within one transaction
FOLDED_AT_ONCE = 5000
SLOWEST = 500  # rows per second; a slower transaction is given up
TOLERANCE = 1.5  # seconds from the start of a batch to the last report in it: a second, and a step of the clock
AHEAD = 10.0  # seconds by which a date may be later than the database's clock
BATCHES = 100  # batches read at once
HEAD_WAIT = 1.0  # seconds to wait for other writers, for data that can also be written later
T = TypeVar("T")
_COLUMNS = tuple(host.c[name] for name in HostRow._fields)
_TABLES = (host, beat)
_CLOCK = {  # Unix seconds; of a file: this machine's
    "postgresql": "CAST(extract(epoch FROM clock_timestamp()) AS double precision)",
    "sqlite": "((julianday('now') - 2440587.5) * 86400.0)",
}
_WRITTEN = ("last_seen", "address", "updater_version", "agents", "since", "outcomes", "retired_at", "serial", "meta")


def load(database: Database) -> Iterator[HostRow]:
    """All hosts in the order of their ids, with last_seen merged from the batches."""
    made = tuple.__new__  # for a million hosts, HostRow itself would take a third of the time
    with database.following() as (connection, _):
        seen = _last_beats(database, connection)  # first, since they may be compacted into the rows
        query = f"SELECT {', '.join(HostRow._fields)} FROM host ORDER BY id"  # noqa: S608 - constant names
        with database.stream(connection, query) as batches:
            for batch in batches:
                for number, name, first, last, address, updater, agents, stamps, outcomes, retired_at in batch:
                    if seen[number] > last:
                        last = seen[number]
                    if 0.0 < retired_at < last:
                        retired_at = 0.0  # it has come back by that batch
                    yield made(
                        HostRow, (number, name, first, last, address, updater, agents, stamps, outcomes, retired_at)
                    )


def _last_beats(database: Database, connection: sa.Connection) -> "array[float]":
    """For each host id, the time of its last batch, or 0. A batch of the future counts only if nothing was written since."""
    limit = connection.execute(sa.select(_clock(connection) + AHEAD)).scalar_one()
    highest = connection.execute(sa.select(sa.func.max(host.c.id))).scalar() or 0
    seen = array("d", bytes(8 * (highest + 1)))
    with database.stream(connection, "SELECT at, seen FROM beat ORDER BY at", BATCHES) as batches:
        for at, ids in chain.from_iterable(batches):
            for number in unpack(ids) if at <= limit else ():
                if number <= highest:
                    seen[number] = at
    for number, at in _doubtful(connection, limit).items():
        if number <= highest:
            seen[number] = at
    return seen


def _doubtful(connection: sa.Connection, limit: float) -> dict[int, float]:
    """id -> time of the last batch dated later than `limit`, if neither the row nor another batch was written after it."""
    of_them = sa.select(beat.c.serial, beat.c.at, beat.c.seen).where(beat.c.at > limit).order_by(beat.c.at)
    batches = connection.execute(of_them).all()
    if not batches:
        return {}
    last = max(row.serial for row in batches)
    since = set(connection.execute(sa.select(host.c.id).where(host.c.serial > last)).scalars())
    for ids in connection.execute(sa.select(beat.c.seen).where(beat.c.serial > last)).scalars():
        since.update(unpack(ids))
    return {number: row.at for row in batches for number in unpack(row.seen) if number not in since}


def save(
    database: Database,
    meta: str,
    at: float,
    rows: Sequence[HostRow],
    seen: Sequence[int],
    earlier: Sequence[HeartbeatBatch],
) -> dict[str, int]:
    """Write everything in one transaction. Returns the ids of host names that were new to the database."""
    how: dict[str, Any] = {"durable": False, "head_wait": HEAD_WAIT, "patience": PATIENCE + len(rows) / SLOWEST}
    with database.writing("hosts", _TABLES, steps=1 + len(earlier), **how) as (connection, serial):
        for number, one in enumerate(earlier, serial - len(earlier)):
            told = {"seen": one.seen, "changed": (), "gone": ()}
            connection.execute(sa.insert(beat), _batch(number, meta, one.at, told))
        ids, changed = _write(connection, serial, meta, rows)
        told = {"seen": seen, "changed": changed, "gone": ()}
        connection.execute(sa.insert(beat), _batch(serial, meta, at, told))
    return ids


def write_beside(connection: sa.Connection, meta: str, at: float, rows: Sequence[HostRow]) -> None:
    """Write rows in a transaction that already holds the lock on the head. The batch names no meta, so that this meta follows
    it, too, and learns of a write whose answer was lost."""
    serial = connection.execute(sa.update(head).values(hosts=head.c.hosts + 1).returning(head.c.hosts)).scalar_one()
    _, changed = _write(connection, serial, meta, rows)
    connection.execute(sa.insert(beat), _batch(serial, "", at, {"seen": (), "changed": changed, "gone": ()}))


def _write(
    connection: sa.Connection, serial: int, meta: str, rows: Sequence[HostRow]
) -> tuple[dict[str, int], list[int]]:
    """Write rows; returns (ids of new host names, ids of all)."""
    latest = {row.hostname: row._asdict() | {"serial": serial, "meta": meta} for row in rows}
    known = [values for values in latest.values() if values["id"]]
    new = [values for values in latest.values() if not values["id"]]
    missing = _update(connection, known)
    ids = _insert(connection, new + missing)
    changed = {*ids.values(), *(values["id"] for values in known)} - {values["id"] for values in missing}
    return ids, sorted(changed)


def _batch(serial: int, meta: str, at: float, ids: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    return {"serial": serial, "meta": meta, "at": at} | {key: pack(numbers) for key, numbers in ids.items()}


def _update(connection: sa.Connection, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Update rows; returns those whose id does not exist: deleted by another meta, or lost when a backup was restored."""
    new = {name: sa.bindparam(f"new_{name}", type_=host.c[name].type) for name in _WRITTEN}
    its_row = (host.c.id == sa.bindparam("its_id"), host.c.hostname == sa.bindparam("its_name"))
    statement = sa.update(host).where(*its_row).values(_merged(new, connection))
    missing: list[dict[str, Any]] = []
    for batch in in_batches(rows):
        values = [{f"new_{name}": row[name] for name in _WRITTEN} | _key(row) for row in batch]
        if connection.execute(statement, values).rowcount < len(batch):
            found = sa.select(host.c.id, host.c.hostname).where(host.c.id.in_([row["id"] for row in batch]))
            there = {tuple(pair) for pair in connection.execute(found)}
            missing += [row for row in batch if (row["id"], row["hostname"]) not in there]
    return missing


def _merged(new: Mapping[str, sa.ColumnElement[Any]], connection: sa.Connection) -> dict[str, sa.ColumnElement[Any]]:
    """The values to write over a row: an older report never replaces a newer one. Retiring a host, unretiring it
    (retired_at < 0) and its last report each have a time; the latest decides."""
    is_later = sa.or_(new["last_seen"] >= host.c.last_seen, _is_ahead(host.c.last_seen, connection))
    merged: dict[str, Any] = {name: sa.case((is_later, new[name]), else_=host.c[name]) for name in _WRITTEN}
    old_word = sa.func.abs(host.c.retired_at)
    is_its_word = sa.or_(sa.func.abs(new["retired_at"]) >= old_word, _is_ahead(old_word, connection))
    word = sa.case((is_its_word, new["retired_at"]), else_=host.c.retired_at)
    merged["retired_at"] = sa.case((sa.func.abs(word) < merged["last_seen"], 0.0), else_=word)
    return merged | {"serial": new["serial"]}


def _clock(connection: sa.Connection) -> sa.ColumnElement[float]:
    return sa.literal_column(_CLOCK[connection.dialect.name], sa.Double)


def _is_ahead(at: sa.ColumnElement[float], connection: sa.Connection) -> sa.ColumnElement[bool]:
    """Whether a time is in the future by the database's clock, thus from a clock that was set back since. The writer's own
    clock does not serve, since the writer may have been suspended."""
    return at > _clock(connection) + AHEAD


def _key(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"its_id": row["id"], "its_name": row["hostname"]}


def _insert(connection: sa.Connection, rows: list[dict[str, Any]]) -> dict[str, int]:
    insert = postgresql.insert(host) if connection.dialect.name == "postgresql" else sqlite.insert(host)
    merged = _merged({name: insert.excluded[name] for name in _WRITTEN}, connection)
    kept = insert.on_conflict_do_update(index_elements=["hostname"], set_=merged)
    upsert = kept.returning(host.c.hostname, host.c.id)
    ids: dict[str, int] = {}
    for batch in in_batches([{key: value for key, value in row.items() if key != "id"} for row in rows]):
        ids.update(tuple(pair) for pair in connection.execute(upsert, batch))
    return ids


def in_batches(rows: Sequence[T], size: int = BATCH) -> Iterator[Sequence[T]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def since(database: Database, serial: int, meta: str) -> Since:
    with database.following() as (connection, now):
        reached, folded = now.hosts, now.folded
        if reached == serial:
            return Since(reached, [], [], [])
        after = serial if serial < reached else 0  # 0: the database was restored from a backup
        is_ours = sa.or_(beat.c.meta == meta, beat.c.meta.startswith(f"{meta} ", autoescape=True))
        told = sa.select(beat).where(beat.c.serial > after, sa.not_(is_ours)).order_by(beat.c.serial)
        batches = connection.execute(told).all()
        ids = None
        if after < folded:
            rows = connection.execute(sa.select(*_COLUMNS).where(host.c.serial > after)).all()
            ids = connection.execute(sa.select(host.c.id)).scalars().all()
        else:  # also rows that this meta wrote since, as the result may differ from what it wrote
            changed = sorted({number for row in batches for number in unpack(row.changed)})
            of_them = sa.select(*_COLUMNS)
            rows = [
                row for some in in_batches(changed) for row in connection.execute(of_them.where(host.c.id.in_(some)))
            ]
    return Since(
        reached,
        [HostRow._make(row) for row in rows],
        [HeartbeatBatch(row.at, unpack(row.seen)) for row in batches if row.seen],
        [number for row in batches for number in unpack(row.gone)],
        ids,
        *clocks_of([(row.meta, row.at) for row in batches]),
    )


def fold(database: Database, before: float, last_seen: Callable[[int], float], limit: int) -> int:
    """Compact batches; returns how many were deleted. Two metas may compact the same batches, with the same result. A follower
    that has not read a batch finds the rows instead."""
    with database.reading(SHORT_WAIT) as connection:
        old = sa.select(beat).where(beat.c.at < before).order_by(beat.c.at).limit(limit)
        batches = connection.execute(old).all()
    if not batches:
        return 0
    heard: dict[int, float] = {}
    for row in batches:
        heard.update(dict.fromkeys(unpack(row.seen), row.at))
    silent = [{"its_id": n, "at": at} for n, at in heard.items() if last_seen(n) <= at + TOLERANCE]
    at = sa.bindparam("at", type_=sa.Double)
    old_word = sa.func.abs(host.c.retired_at)
    for batch in in_batches(silent, FOLDED_AT_ONCE):  # others write in between
        with database.writing("hosts", _TABLES, durable=False, head_wait=HEAD_WAIT) as (connection, serial):
            is_later = sa.or_(host.c.last_seen < at, _is_ahead(host.c.last_seen, connection))
            is_over = sa.or_(old_word < at, _is_ahead(old_word, connection))
            word = sa.case((is_over, 0.0), else_=host.c.retired_at)
            later = {"last_seen": at, "retired_at": word, "serial": sa.bindparam("its_serial")}
            statement = sa.update(host).where(host.c.id == sa.bindparam("its_id"), is_later).values(later)
            connection.execute(statement, [values | {"its_serial": serial} for values in batch])
    _drop_batches(database, [row.serial for row in batches])
    return len(batches)


def _drop_batches(database: Database, serials: list[int]) -> None:
    latest = max(serials)
    folded = sa.case((head.c.folded < latest, latest), else_=head.c.folded)
    with database.writing("hosts", _TABLES, durable=False, head_wait=HEAD_WAIT) as (connection, _):
        connection.execute(sa.delete(beat).where(beat.c.serial.in_(serials)))
        connection.execute(sa.update(head).values(folded=folded))


def redate(database: Database, meta: str, by: float, after: float) -> None:
    own = sa.update(beat).where(beat.c.meta == meta, beat.c.at > after).values(at=beat.c.at + by)
    with database.writing("hosts", _TABLES, durable=False, head_wait=HEAD_WAIT) as (connection, _):
        connection.execute(own)


def forget(database: Database, at: float, ids: Sequence[int], before: float) -> Gone:
    """Delete retired hosts. The batch names no meta, as in `write_beside`."""
    if not ids:
        return Gone([], 0)
    gone: list[int] = []
    names: list[str] = []
    patience = PATIENCE + len(ids) / SLOWEST
    still = (host.c.retired_at > 0, host.c.retired_at < before, host.c.last_seen <= host.c.retired_at)
    tables = (*_TABLES, host_token)
    with database.writing("hosts", tables, patience=patience, head_wait=HEAD_WAIT) as (connection, serial):
        for batch in in_batches(ids):
            forgotten = sa.delete(host).where(host.c.id.in_(batch), *still).returning(host.c.id, host.c.hostname)
            for number, name in connection.execute(forgotten):
                gone.append(number)
                names.append(name)
        revoked = _revoke(connection, names, at, before)
        connection.execute(sa.insert(beat), _batch(serial, "", at, {"seen": (), "changed": (), "gone": gone}))
    return Gone(gone, revoked)


def _revoke(connection: sa.Connection, names: Sequence[str], at: float, before: float) -> int:
    """Revoke the tokens of these hosts that are older than `before`; a younger one is of a host that enrolled again. Returns
    how many there were. The transaction holds the lock on the head."""
    is_theirs = (sa.func.length(host_token.c.hash) > 0, host_token.c.at < before)
    counted = sa.update(head).values(tokens=head.c.tokens + 1).returning(head.c.tokens)
    serial = connection.execute(counted).scalar_one() if names else 0
    blank = sa.update(host_token).values(hash=b"", at=at, serial=serial).where(*is_theirs)
    return sum(connection.execute(blank.where(host_token.c.hostname.in_(some))).rowcount for some in in_batches(names))


def pack(ids: Sequence[int]) -> bytes:
    """ids as uint32, little-endian."""
    return _little_endian(array("I", ids)).tobytes()


def unpack(ids: bytes) -> "array[int]":
    return _little_endian(array("I", bytes(ids)))


def _little_endian(ids: "array[int]") -> "array[int]":
    if sys.byteorder == "big":
        ids = ids[:]
        ids.byteswap()
    return ids
