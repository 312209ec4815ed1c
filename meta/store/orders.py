"""What people order of hosts: to be retired, or taken back.

Judged by what the database holds, behind the head's lock, so that two metas cannot both judge by what was before either of
them. An order is later than whatever was written of the host before, by the clock of any meta: so a beat that was heard before
it does not undo it.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from meta.store.hosts import in_batches, unpack
from meta.store.rows import HostOrder, HostRow
from meta.store.tables import beat, host

TICK = 1.0  # seconds from the time of a beat to the last report in it
AFTER = 0.001  # seconds by which an order is later than another


class Stored(NamedTuple):
    """What the database holds of a host. last_seen: of its row and its beats."""

    last_seen: float
    retired_at: float


def judge(connection: sa.Connection, order: HostOrder) -> list[HostRow]:
    """The rows that it changes, each with the time from which on it counts."""
    stored = _stored(connection, [row.hostname for row in order.rows], order.at - TICK)
    found = (judged(row, stored.get(row.hostname), order.at, order.retired) for row in order.rows)
    return [row for row in found if row]


def judged(row: HostRow, stored: Stored | None, at: float, retired: bool) -> HostRow | None:
    """The row of a host that is retired, or taken back, at this time; None where it is so already. row: as this meta knows it,
    also what is not written yet; stored: None where the database does not know it. Pure."""
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
    """since: beats that are older are of no account, whatever they say."""
    found: dict[str, Stored] = {}
    heard = connection.execute(sa.select(beat.c.at, beat.c.seen).where(beat.c.at > since).order_by(beat.c.at)).all()
    for names in in_batches(hostnames):
        columns = (host.c.id, host.c.hostname, host.c.last_seen, host.c.retired_at)
        rows = connection.execute(sa.select(*columns).where(host.c.hostname.in_(names))).all()
        last = _last(((at, unpack(seen)) for at, seen in heard), {row.id for row in rows})
        found |= {row.hostname: Stored(max(row.last_seen, last.get(row.id, 0.0)), row.retired_at) for row in rows}
    return found


def _last(beats: Iterable[tuple[float, Sequence[int]]], ids: set[int]) -> dict[int, float]:
    """By id: the time of the last of these beats, which are in order."""
    return {number: at for at, seen in beats for number in ids.intersection(seen)}
