"""What other metas wrote, taken into memory. A host that others forgot comes back by a beat alone, not from our memory."""

from collections.abc import Iterable, Iterator

from meta.hosts.model import Host
from meta.hosts.table import HostTable
from meta.store import AHEAD, HostRow, Since
from meta.sync.rows import saved_of

LATER = 2.0  # seconds by which the date of a beat may be too early


def absorb(table: HostTable, since: Since, now: float, written: float = 0.0) -> None:
    """Rows, beats, and hosts that are gone. written: what we heard until then is in the database, and known to others."""
    table.merge(map(saved_of, since.rows), now)
    for beat in since.beats:
        table.hear(beat.at, beat.seen, now)
    missing = set() if since.ids is None else table.ids() - set(since.ids)
    table.forget([*since.gone, *missing], written)


def renew(table: HostTable, rows: Iterable[HostRow], now: float, forgotten: float = 0.0) -> int:
    """All rows of a database that may have lost what we know, and given its ids to others: the same host wins as ever, the ids
    are theirs, and what it has not got is written again. forgotten: of what it has not got only that which was heard of since
    then; others have forgotten the rest while we were away. Returns how many hosts are written again."""
    table.forget_ids()
    behind: list[Host] = []

    def compared() -> Iterator[HostRow]:
        for row in rows:
            host = table.get(row.hostname)
            if host and (host.last_seen > row.last_seen + LATER or row.last_seen > now + AHEAD):
                behind.append(host)
            yield row

    table.merge(map(saved_of, compared()), now)
    table.keep_or_forget(forgotten)
    table.mark_dirty(behind)
    return table.waiting
