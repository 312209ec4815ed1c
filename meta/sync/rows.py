"""Hosts as rows of the database: what is to be written, and what comes back at the start.

A host that only beats again costs no row: its id joins those of its tick. All functions take the table's lock themselves, for
some milliseconds at most.
"""

import gc
import logging
from collections.abc import Iterable
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from meta.hosts.agent_sets import Profile, Stamp
from meta.hosts.model import Host
from meta.hosts.outcomes import read_outcomes, verdicts_of
from meta.hosts.table import HostTable
from meta.store import AHEAD, Beat, HostRow
from updater.wire.decode_problems import in_words
from updater.wire.text import one_line

AT_ONCE = 2000  # hosts that become rows, or come from them, while the lock is held
AT_MOST = 20_000  # rows of one write
Content = tuple[
    Profile, float | tuple[float, ...], Stamp
]  # of a row: the agents, since when they are so, when looked at
_stamps = msgspec.json.Decoder(tuple[float | tuple[float, ...], Stamp])
_encode = msgspec.json.Encoder().encode
log = logging.getLogger(__name__)


class Taken(NamedTuple):
    """What is to be written: the rows of these hosts, and by tick the ids of the others that were heard of."""

    hosts: list[Host]
    rows: list[HostRow]
    beats: list[Beat]


def take(table: HostTable, now: float) -> Taken:
    """What came since the last call, as much as fits into one write; whoever takes it writes it down or gives it back."""
    with table.locked():
        changed = list(islice(table.dirty, AT_MOST))
        table.dirty.difference_update(changed)
        ticks = table.seen.turn(now)
    rows: list[HostRow] = []
    for start in range(0, len(changed), AT_ONCE):
        with table.locked():
            rows.extend(row_of(table, host) for host in changed[start : start + AT_ONCE])
    known = set(changed)
    heard = ((tick.began, [host.id for host in tick.hosts if host.id and host not in known]) for tick in ticks)
    return Taken(changed, rows, [Beat(began, ids) for began, ids in heard if ids])


def give_back(table: HostTable, taken: Taken) -> None:
    """This could not be written: the hosts count as changed again."""
    with table.locked() as hosts:
        table.dirty.update(host for host in taken.hosts if hosts.get(host.name) is host)


def known(table: HostTable, name: str) -> HostRow | None:
    """The row of the host of this name, None where there is none."""
    with table.locked() as hosts:
        host = hosts.get(name)
        return row_of(table, host) if host else None


def learn_ids(table: HostTable, ids: dict[str, int]) -> None:
    """The database has given these hosts their ids."""
    with table.locked() as hosts:
        for name, number in ids.items():
            if host := hosts.get(name):
                set_id(table, host, number)


def set_id(table: HostTable, host: Host, number: int) -> None:
    """0: the database does not know it. With the lock held."""
    if host.id != number:
        table.by_id.pop(host.id, None)
        host.id = number
        if number:
            table.by_id[number] = host


def load(table: HostTable, rows: Iterable[HostRow], now: float) -> None:
    """Fill a new table, which nobody uses yet. A row that cannot be read is logged and left out; one that is dated later than
    now, by a clock that was set back since, counts as of now and is written again."""
    gc.disable()  # a million new objects are no garbage
    try:
        hosts = [host for row in rows if (host := enter(table, row, now))]
        table.dirty.update(host for host in hosts if host.last_seen > now + AHEAD)
        for host in (host for host in hosts if host.last_seen > now):
            host.last_seen = now
        table.seen.load((host for host in hosts if not host.retired_at), now)
        table.load_order()
    finally:
        gc.freeze()  # first, or they would all be looked at once
        gc.enable()


def enter(table: HostTable, row: HostRow, now: float) -> Host | None:
    """A host that is not there yet, but for its place in time and order. With the lock held."""
    number, name, first_seen, last_seen, address, version, _, _, told, retired_at = row
    content = read(table, row, now)
    if content is None:
        return None
    profile, since, looked = content
    group = table.group(profile, table.classes.of(name) if retired_at <= 0 else table.nowhere)
    host = Host(
        name, min(first_seen, now), last_seen, group, number, address, table.whereabouts.updater(version), since, looked
    )
    table.enter(host)
    table.by_id[number] = host
    if told:
        table.tell(host, told)
    if retired_at > 0:
        host.retired_at = retired_at
        table.retired[host] = None
    elif retired_at:
        table.spared[host] = -retired_at
    return host


def read(table: HostTable, row: HostRow, now: float) -> Content | None:
    """None, and a line in the log, where it is no row of ours. The profile must get its group at once. Nothing
    is so since later than now."""
    try:
        since, looked = _stamps.decode(row.since)
        since = tuple(min(one, now) for one in since) if isinstance(since, tuple) else min(since, now)
        verdicts = verdicts_of(read_outcomes(row.outcomes)) if row.outcomes else ()
        return table.profiles.read(row.agents, verdicts), since, looked
    except (msgspec.DecodeError, TypeError, ValueError) as e:
        why = in_words(e) if isinstance(e, msgspec.DecodeError) else "not of the form that is kept"
        log.warning("host %s in the database cannot be read: %s", one_line(row.hostname, 253), why)
        return None


def row_of(table: HostTable, host: Host) -> HostRow:
    """Its row. retired_at < 0: when somebody took it back, to whom its silence before does not count. With the lock held."""
    stamps: Any = (host.since, host.looked)
    spared = table.spared.get(host, 0.0) if table.spared else 0.0
    return HostRow(
        id=host.id,
        hostname=host.name,
        first_seen=host.first_seen,
        last_seen=host.last_seen,
        address=host.address,
        updater_version=host.updater.version,
        agents=host.group.profile.text,
        since=_encode(stamps).decode(),
        outcomes=host.told,
        retired_at=host.retired_at or (-spared if spared > host.last_seen else 0.0),
    )
