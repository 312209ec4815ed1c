"""Retires and unretires hosts by order of a person.

Orders are decided on the database's state, with the lock on the head held, so that two metas cannot decide on the same old
state. An order is dated later than everything written about the host before, by any clock. So an earlier heartbeat cannot undo
it.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from meta.store.hosts import in_batches, unpack
from meta.store.rows import HostOrder, HostRow
from meta.store.tables import beat, host

TICK = 1.0  # seconds from the time of a heartbeat batch to the last report in it
AFTER = 0.001  # seconds by which an order is later than the one before


class Stored(NamedTuple):
    """What the database has of a host."""

    last_seen: float  # the later one of its row and its heartbeat batches
    retired_at: float


def judge(connection: sa.Connection, order: HostOrder) -> list[HostRow]:
    """The rows that the order changes, each with the time from which it counts."""
    stored = _stored(connection, [row.hostname for row in order.rows], order.at - TICK)
    found = (judged(row, stored.get(row.hostname), order.at, order.retired) for row in order.rows)
    return [row for row in found if row]


def judged(row: HostRow, stored: Stored | None, at: float, retired: bool) -> HostRow | None:
    """The row of a host that is retired or unretired at this time; None if it already is. Pure.

    row: as this meta knows it, with data that are not written yet; stored: None if the database does not have it.
    """
    word, alive = row.retired_at, row.last_seen
    if stored:
        word, alive = max(word, stored.retired_at, key=abs), max(alive, stored.last_seen)
    is_so = _is_retired(word, alive) == retired
    is_written = _is_retired(stored.retired_at, stored.last_seen) == retired if stored else not retired
    if is_so and is_written:
        return None
    after = max(abs(word) + AFTER if word else 0.0, row.last_seen)
    if stored and retired:
        after = max(after, stored.last_seen + TICK)
    when = max(at, after)
    return row._replace(retired_at=when if retired else -when)


def _is_retired(word: float, alive: float) -> bool:
    return word > 0 and word >= alive


def _stored(connection: sa.Connection, hostnames: Sequence[str], since: float) -> dict[str, Stored]:
    """What the database has of these hosts. since: heartbeat batches older than that are ignored."""
    found: dict[str, Stored] = {}
    heard = connection.execute(sa.select(beat.c.at, beat.c.seen).where(beat.c.at > since).order_by(beat.c.at)).all()
    for names in in_batches(hostnames):
        columns = (host.c.id, host.c.hostname, host.c.last_seen, host.c.retired_at)
        rows = connection.execute(sa.select(*columns).where(host.c.hostname.in_(names))).all()
        last = _last(((at, unpack(seen)) for at, seen in heard), {row.id for row in rows})
        found |= {row.hostname: Stored(max(row.last_seen, last.get(row.id, 0.0)), row.retired_at) for row in rows}
    return found


def _last(batches: Iterable[tuple[float, Sequence[int]]], ids: set[int]) -> dict[int, float]:
    """id -> the time of its last heartbeat batch; `batches` are in order."""
    return {number: at for at, seen in batches for number in ids.intersection(seen)}
