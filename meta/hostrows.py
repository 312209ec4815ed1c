"""Hosts as rows of the database: what is to be written, what comes back at the start, and what other metas wrote meanwhile.

A host that only beats again costs no row: its id joins those of its tick. All functions take the table's lock themselves, for
some milliseconds at most.
"""

import gc
import logging
import sys
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from meta.hosts import Host, HostTable
from meta.seen import Tick
from meta.store import HostRow, Since
from updater.wire import Outcome, one_line

AT_ONCE = 2000  # hosts that become rows, or come from them, while the lock is held
_stamps = msgspec.json.Decoder(tuple[float | tuple[float, ...], int | tuple[int, ...]])
_outcomes = msgspec.json.Decoder(dict[str, Outcome])
_encode = msgspec.json.Encoder().encode
log = logging.getLogger(__name__)


class Taken(NamedTuple):
    """What one write is to hold: the rows of these hosts, and the ids of the others that were heard of."""

    hosts: list[Host]
    rows: list[HostRow]
    seen: list[int]


def take(table: HostTable, now: float) -> Taken:
    """Everything since the last call; whoever takes it writes it down or gives it back."""
    with table.locked():
        changed = list(table.dirty)
        table.dirty.clear()
        heard = table.seen.turn(now)
    rows: list[HostRow] = []
    for start in range(0, len(changed), AT_ONCE):
        with table.locked():
            rows.extend(map(_row, changed[start : start + AT_ONCE]))
    known = set(changed)
    return Taken(changed, rows, [host.id for host in heard if host.id and host not in known])


def give_back(table: HostTable, taken: Taken) -> None:
    """This could not be written: the hosts count as changed again. Those that were only heard of will be again."""
    with table.locked():
        table.dirty.update(taken.hosts)


def learn_ids(table: HostTable, ids: dict[str, int]) -> None:
    """The database has given these hosts their ids."""
    with table.locked() as hosts:
        for name, number in ids.items():
            if host := hosts.get(name):
                host.id = number
                table.by_id[number] = host


def load(table: HostTable, rows: Iterable[HostRow], now: float) -> None:
    """Fill a new table. A row that cannot be read is logged and left out."""
    gc.disable()  # a million new objects are no garbage
    try:
        hosts = [host for row in rows if (host := _enter(table, row))]
        table.seen.load((host for host in hosts if not host.retired_at), now)
    finally:
        gc.enable()
    gc.freeze()


def absorb(table: HostTable, since: Since) -> None:
    """What other metas have written."""
    rows = iter(since.rows)
    while some := list(islice(rows, AT_ONCE)):
        with table.locked() as hosts:
            for row in some:
                _absorb_row(table, hosts.get(row.hostname), row)
    for beat in since.beats:
        _absorb_beat(table, beat.at, beat.seen)
    with table.locked():
        for number in since.gone:
            if host := table.by_id.get(number):
                table.forget(host)


def _absorb_row(table: HostTable, host: Host | None, row: HostRow) -> None:
    if host is None:
        if entered := _enter(table, row):
            _hear(table, Tick(row.last_seen), entered, row.last_seen)
        return
    if not host.id:
        host.id = row.id
        table.by_id[row.id] = host
    if row.last_seen < host.last_seen or host in table.dirty:
        return  # ours is newer, and will be written
    if host.retired_at:
        table.bring_back(host)
    _fill(table, host, row)
    _hear(table, Tick(row.last_seen), host, row.last_seen)
    if row.retired_at:
        table.set_aside(host, row.retired_at)
    table.dirty.discard(host)


def _absorb_beat(table: HostTable, at: float, seen: Sequence[int]) -> None:
    tick = Tick(at)
    with table.locked():
        for number in seen:
            host = table.by_id.get(number)
            if host and host.last_seen < at:
                _hear(table, tick, host, at)


def _hear(table: HostTable, tick: Tick, host: Host, at: float) -> None:
    host.last_seen = at
    if not host.retired_at:
        table.seen.hear(host, tick)


def _enter(table: HostTable, row: HostRow) -> Host | None:
    try:
        profile = table.profiles.read(row.agents)
        host = Host(row.hostname, row.first_seen, row.last_seen, table.group(profile, table.classes.of(row.hostname)))
        _fill_rest(host, row)
    except (msgspec.DecodeError, TypeError, ValueError) as e:
        log.warning("host %s in the database cannot be read and is forgotten: %s", one_line(row.hostname, 253), e)
        return None
    table.enter(host)
    table.by_id[host.id] = host
    if row.retired_at:
        table.set_aside(host, row.retired_at)
    return host


def _fill(table: HostTable, host: Host, row: HostRow) -> None:
    try:
        profile = table.profiles.read(row.agents)
        _fill_rest(host, row)
    except (msgspec.DecodeError, TypeError, ValueError) as e:
        log.warning("host %s in the database cannot be read: %s", host.name, e)
        return
    table.move(host, profile, host.group.klass)


def _fill_rest(host: Host, row: HostRow) -> None:
    host.since, host.looked = _stamps.decode(row.since)
    host.outcomes = _outcomes.decode(row.outcomes) if row.outcomes else {}
    host.id, host.address, host.updater_version = row.id, row.address, sys.intern(row.updater_version)


def _row(host: Host) -> HostRow:
    stamps: Any = (host.since, host.looked)
    return HostRow(
        id=host.id,
        hostname=host.name,
        first_seen=host.first_seen,
        last_seen=host.last_seen,
        address=host.address,
        updater_version=host.updater_version,
        agents=host.group.profile.text,
        since=_encode(stamps).decode(),
        outcomes=_encode(host.outcomes).decode() if host.outcomes else "",
        retired_at=host.retired_at,
    )
