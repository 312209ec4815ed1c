"""What other metas wrote, taken into memory: two metas that hear of the same hosts come to the same, whoever wrote last.

Of a host that both heard of, the later report counts; outcomes are joined, whoever got them. Where what another meta wrote is
not what we know, the host counts as changed here, so that the database gets the better of both. Times of others that are in
our future, by their clock, count as now. A host that others forgot comes back by a beat alone, not from our memory. Who wrote a
beat of a host that is retired here may be dead by now, so it is us who write that it is back.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import msgspec

from meta.hosts.last_seen import Tick
from meta.hosts.model import Host
from meta.hosts.outcomes import read_outcomes, write_outcomes
from meta.hosts.table import HostTable
from meta.store import AHEAD, HostRow, Since
from meta.sync.rows import AT_ONCE, enter, read, row_of, set_id

SHARE = 1.0  # seconds of which hosts share a tick
LATER = 2.0  # seconds by which the date of a beat may be too early
T = TypeVar("T")


class Ticks:
    """The ticks of hosts that another meta heard of, by time."""

    def __init__(self, table: HostTable, now: float):
        self._table = table
        self.now = now
        self._ticks: dict[int, Tick] = {}

    def hear(self, host: Host, at: float) -> None:
        """The host was heard of at this time, which is not before we did. With the lock held."""
        host.last_seen = min(at, self.now)
        if not host.retired_at:
            number = int(host.last_seen // SHARE)
            tick = self._ticks.get(number)
            if tick is None:
                tick = self._ticks[number] = Tick(min(self.now, (number + 1) * SHARE))
            self._table.seen.hear(host, tick)

    def close(self) -> None:
        """With the lock held."""
        for tick in self._ticks.values():
            self._table.seen.add(tick, self.now)
        self._ticks.clear()


def absorb(table: HostTable, since: Since, now: float, written: float = 0.0) -> None:
    """Rows, beats, and hosts that are gone. written: what we heard until then is in the database, and known to others."""
    _absorb_rows(table, since.rows, now)
    ticks = Ticks(table, now)
    for beat in since.beats:
        for numbers in _some(beat.seen):
            with table.locked():
                for number in numbers:
                    host = table.by_id.get(number)
                    if host and max(host.last_seen, host.retired_at) < beat.at:
                        if host.retired_at:
                            table.bring_back(host)
                            table.dirty.add(host)
                        ticks.hear(host, beat.at)
                ticks.close()
    missing = set() if since.ids is None else table.by_id.keys() - set(since.ids)
    for numbers in _some([*since.gone, *missing]):
        with table.locked():
            for number in numbers:
                if host := table.by_id.get(number):
                    let_go(table, host, written)


def disown(table: HostTable) -> None:
    """Nothing is known of ids any more: they may be others' by now."""
    with table.locked() as hosts:
        for host in hosts.values():
            set_id(table, host, 0)


def renew(table: HostTable, rows: Iterable[HostRow], now: float, forgotten: float = 0.0) -> int:
    """All rows of a database that may have lost what we know, and given its ids to others: the same host wins as ever, the ids
    are theirs, and what it has not got is written again. forgotten: of what it has not got only that which was heard of since
    then; others have forgotten the rest while we were away. Returns how many hosts are written again."""
    disown(table)
    with table.locked() as hosts:
        known = list(hosts.values())
    behind: list[Host] = []

    def compared() -> Iterator[HostRow]:
        for row in rows:
            host = table.get(row.hostname)
            if host and (host.last_seen > row.last_seen + LATER or row.last_seen > now + AHEAD):
                behind.append(host)
            yield row

    _absorb_rows(table, compared(), now)
    for some in _some(known):
        with table.locked() as hosts:
            for host in some:
                if not host.id and hosts.get(host.name) is host:
                    _keep_or_forget(table, host, forgotten)
    with table.locked():
        table.dirty.update(behind)
        return len(table.dirty)


def _keep_or_forget(table: HostTable, host: Host, forgotten: float) -> None:
    """The database has not got this host. With the lock held."""
    if max(host.last_seen, host.retired_at, table.spared.get(host, 0.0)) >= forgotten:
        table.dirty.add(host)
        return
    if not host.retired_at:
        table.set_aside(host, forgotten)
    table.forget(host)


def _absorb_rows(table: HostTable, rows: Iterable[HostRow], now: float) -> None:
    ticks, rows = Ticks(table, now), iter(rows)
    while some := list(islice(rows, AT_ONCE)):
        with table.locked() as hosts:
            for row in some:
                _absorb_row(table, hosts.get(row.hostname), row, ticks)
            ticks.close()


def _some(all_of_them: Sequence[T]) -> Iterator[Sequence[T]]:
    return (all_of_them[start : start + AT_ONCE] for start in range(0, len(all_of_them), AT_ONCE))


def let_go(table: HostTable, host: Host, written: float = 0.0) -> None:
    """The database has forgotten this host; one that was heard of after `written` gets a row again. With the lock held."""
    if not host.retired_at and max(host.last_seen, table.spared.get(host, 0.0)) < written:
        table.set_aside(host, written)
    if host.retired_at:
        table.forget(host)
    else:
        set_id(table, host, 0)
        table.dirty.add(host)


def _absorb_row(table: HostTable, host: Host | None, row: HostRow, ticks: Ticks) -> None:
    if host is None:
        if host := enter(table, row, ticks.now):
            table.arrive(host)
            ticks.hear(host, row.last_seen)
        return
    set_id(table, host, row.id)
    is_later = row.last_seen >= host.last_seen
    if is_later:
        _take_report(table, host, row, ticks.now)
    _join_outcomes(table, host, row)
    table.judge(host)
    _settle_retirement(table, host, row)
    if is_later:
        ticks.hear(host, row.last_seen)
    if _differs(table, host, row):
        table.dirty.add(host)
    elif is_later:
        table.dirty.discard(host)


def _take_report(table: HostTable, host: Host, row: HostRow, now: float) -> None:
    if content := read(table, row, now):
        profile, host.since, host.looked = content
        table.move(host, profile)
        host.address, host.updater = row.address, table.whereabouts.updater(row.updater_version, host.updater.mark)


def _join_outcomes(table: HostTable, host: Host, row: HostRow) -> None:
    """Of each agent the latest, by the host's own clock; both metas must come to the same text."""
    if host.told == row.outcomes or not row.outcomes:
        return
    ours, theirs = host.outcomes, read_outcomes(row.outcomes)
    both = sorted(
        [*ours.values(), *theirs.values()], key=lambda outcome: (outcome.at, msgspec.structs.astuple(outcome))
    )
    joined = {outcome.agent: outcome for outcome in both}
    if joined == theirs:
        table.tell(host, row.outcomes)
    elif joined != ours:
        table.tell(host, write_outcomes(joined, brief=False))


def _settle_retirement(table: HostTable, host: Host, row: HostRow) -> None:
    """The last that happened counts: it was retired, was heard of, or was taken back."""
    alive = max(host.last_seen, row.last_seen, table.spared.get(host, 0.0), -row.retired_at)
    if max(host.retired_at, row.retired_at) < alive:
        if host.retired_at:
            table.bring_back(host)
            table.seen.quiet(host)
        if row.retired_at < 0:
            table.spared[host] = max(-row.retired_at, table.spared.get(host, 0.0))
    elif not host.retired_at:
        table.set_aside(host, row.retired_at)
    else:
        host.retired_at = max(host.retired_at, row.retired_at)


def _differs(table: HostTable, host: Host, row: HostRow) -> bool:
    """Whether the database holds something worse than we know. Since when it is so is nobody's quarrel."""
    ours = row_of(table, host)
    return ours._replace(first_seen=row.first_seen, last_seen=row.last_seen, since=row.since) != row
